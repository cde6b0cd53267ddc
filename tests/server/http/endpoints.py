"""Every endpoint of the app, for tests that try them all."""

from __future__ import annotations

from functools import cache

from slotmux.server.http.app import create_app
from slotmux.server.http.paths import Paths
from slotmux.server.process.state import ServerState
from slotmux.server.settings import Settings

# Paths that are there, for those with variables.
EXAMPLES = {"/v1/models/{model_id:path}": "/v1/models/fake"}


@cache
def paths() -> Paths:
    """Of an app with the usual settings."""
    found: Paths = create_app(ServerState(Settings())).state.paths
    return found


def routes() -> list[tuple[str, str]]:
    """Methods and paths."""
    return [(method, each.path) for each in paths().endpoints for method in each.methods]
