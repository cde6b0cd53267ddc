"""`slotmux serve`: settings from flags and environment, a model from a file, an HTTP server."""

from __future__ import annotations

from typing import Any

import typer

from slotmux.server.commands.serve_flags import with_settings_flags


@with_settings_flags
def serve(**flags: Any) -> None:
    """Serve a model over the OpenAI API, to as many clients at once as there are slots.

    The server listens from the first moment and answers 503 until the model is loaded. SIGTERM or
    Ctrl-C lets running answers finish (--drain-timeout), a second one ends at once.

    Each flag can also be set in the environment: --ctx-size is SLOTMUX_CTX_SIZE.
    """
    from slotmux.server.commands.assemble import assemble
    from slotmux.server.process.serve import run
    from slotmux.server.settings import load_settings

    settings = load_settings(**flags)
    raise typer.Exit(run(settings, lambda: assemble(settings)))
