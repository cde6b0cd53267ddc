"""Runs the server: HTTP is up from the first moment, the model follows, a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable

import uvicorn
from starlette.types import ASGIApp

from slotmux.runtime.errors import SlotmuxError
from slotmux.server.config_error import in_words
from slotmux.server.http.app import create_app
from slotmux.server.http.connection import bounded_by
from slotmux.server.process.lifecycle import Lifecycle
from slotmux.server.process.logs import LOGGER, describe, set_up_logging
from slotmux.server.process.state import Loaded, ServerState, TelemetryPort
from slotmux.server.settings import Settings, SettingsError, told_as, unknown_variables

EXIT_FAILED = 1
EXIT_UNUSABLE = 2  # a model, a flag or an address that cannot be used
_BACKLOG = 512
_log = logging.getLogger(LOGGER)


def run(settings: Settings, load: Callable[[], Loaded], known_variables: Iterable[str] = ()) -> int:
    """Serves until a signal or a fatal error; returns the process's exit code. Main thread only.

    ``known_variables``: SLOTMUX_ names that are not settings and that nobody has mistyped.

    ``load`` runs on a thread of its own and returns a model whose engine is not started. It shows
    its own progress; an expected error of it (a bad file, too little memory) means exit code 2.
    """
    set_up_logging(settings.log_level, settings.log_format)
    telemetry = _telemetry(settings)
    for line in unknown_variables(known_variables):
        _log.warning(line)
    listener = listen(settings)
    if listener is None:
        return EXIT_UNUSABLE
    state = ServerState(settings, telemetry=telemetry)
    config = uvicorn_config(create_app(state), settings)
    lifecycle = Lifecycle(config, state, url_of(settings, listener))
    announce(settings, listener)
    return serve_until_end(lifecycle, listener, load)


def serve_until_end(
    lifecycle: Lifecycle, listener: socket.socket, load: Callable[[], Loaded]
) -> int:
    """Serves on ``listener``, with ``load`` on a thread of its own; the process's exit code."""
    loader = threading.Thread(
        target=_load, args=(load, lifecycle), name="slotmux-load", daemon=True
    )
    with asyncio.Runner(loop_factory=lifecycle.config.get_loop_factory()) as runner:
        runner.run(lifecycle.serve_with(listener, loader))
    lifecycle.state.close()
    if loader.is_alive():  # a compilation cannot be interrupted, and must not outlive its modules
        sys.stderr.flush()
        os._exit(lifecycle.exit_code)
    return lifecycle.exit_code


def _telemetry(settings: Settings) -> TelemetryPort | None:
    """Raises SettingsError where the packages for it are missing."""
    if not settings.otel_endpoint:
        return None
    try:
        from slotmux.server.process.telemetry import otlp_telemetry

        return otlp_telemetry(settings.otel_endpoint)
    except ImportError:
        name = told_as("otel_endpoint")
        raise SettingsError(f"{name}: needs OpenTelemetry: pip install 'slotmux[otel]'") from None


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How every app of ours is served."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=bounded_by(settings),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )


def listen(settings: Settings) -> socket.socket | None:
    """A bound socket, before anything is loaded: a taken port must not cost a minute. None, and a
    line on standard error, where that cannot be."""
    try:
        return _bind(settings)
    except OSError as error:
        print(
            f"slotmux: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            " (--host, --port)",
            file=sys.stderr,
        )
        return None


def _bind(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, settings.port, type=socket.SOCK_STREAM
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where clients reach the server."""
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    return f"http://{host}:{port}"


def announce(settings: Settings, listener: socket.socket) -> None:
    """Logs it."""
    fields = {"url": url_of(settings, listener), "needs_key": bool(settings.api_keys)}
    _log.info("listening", extra={"fields": fields})


def _load(load: Callable[[], Loaded], lifecycle: Lifecycle) -> None:
    """On the loader's thread."""
    try:
        loaded = load()
        loaded.engine.start()
    except (SlotmuxError, ValueError, OSError) as error:
        print(f"slotmux: {in_words(error)}", file=sys.stderr)
        lifecycle.end_soon(EXIT_UNUSABLE)
    except BaseException as error:
        _log.error("loading failed", extra={"fields": describe(error) | {"message": str(error)}})
        lifecycle.end_soon(EXIT_FAILED)
    else:
        lifecycle.on_loaded(loaded)
