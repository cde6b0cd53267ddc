"""Every endpoint of the app, for tests that try them all."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

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


def check_as_told(method: str, path: str, answer: Any) -> None:
    """That ``answer``, parsed, has what the endpoint says of itself, strictly, and nothing more."""
    told = next(e.told for e in paths().endpoints if e.path == path and method in e.methods)
    found = TypeAdapter(told.answer).validate_python(answer, strict=True)
    assert found == answer, "an answer has what its description lacks"
