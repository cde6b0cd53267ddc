"""`slotmux serve`: settings from flags and environment, a model from a file, an HTTP server."""

from __future__ import annotations

from typing import Any

from server.commands.serve_flags import with_settings_flags


@with_settings_flags
def serve(**flags: Any) -> None:
    """Serve a model over the OpenAI API."""
