"""A server inside a program that uses it itself: on a free port of loopback, behind a key that
nobody else knows."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from pydantic import SecretStr

from slotmux.server.http.app import create_app
from slotmux.server.process.serve import uvicorn_config
from slotmux.server.process.state import Loaded, ServerState
from slotmux.server.settings import Settings

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server inside is reached."""

    url: str
    api_key: str


@contextlib.contextmanager
def serving_inside(settings: Settings, loaded: Loaded) -> Iterator[Door]:
    """Serves ``loaded``, whose engine is not started, on a thread of its own until the block ends:
    running answers are ended then."""
    key = secrets.token_urlsafe()
    own = settings.model_copy(
        update={"host": _HOST, "port": 0, "api_key": (SecretStr(key),), "api_key_file": None}
    )
    with socket.create_server((_HOST, 0)) as listener:
        state = ServerState(own)
        server = _Inside(state, loaded, listener)
        server.start()
        try:
            yield Door(f"http://{_HOST}:{listener.getsockname()[1]}", key)
        finally:
            server.stop()
            loaded.engine.stop(0.0)
            state.close()


class _Inside:
    """uvicorn on a thread: signals stay the program's."""

    def __init__(self, state: ServerState, loaded: Loaded, listener: socket.socket) -> None:
        self._state = state
        self._loaded = loaded
        self._listener = listener
        self._server = uvicorn.Server(uvicorn_config(create_app(state), state.settings))
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slotmux-http", daemon=True)

    def start(self) -> None:
        """Returns once requests are served; connections are taken from then on."""
        self._thread.start()
        self._is_ready.wait()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            self._loaded.engine.start()
            self._state.become_ready(self._loaded)
        finally:
            self._is_ready.set()  # the listener holds what comes before uvicorn takes it
        await self._server.serve(sockets=[self._listener])
