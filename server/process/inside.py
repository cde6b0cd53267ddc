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
from slotmux.server.http.errors import engine_dead
from slotmux.server.process.serve import uvicorn_config
from slotmux.server.process.state import Loaded, ServerState
from slotmux.server.settings import Settings

_HOST = "127.0.0.1"
_TICK_S = 0.25


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
    """uvicorn on a thread: signals stay the program's. Nobody waits for an engine that died."""

    def __init__(self, state: ServerState, loaded: Loaded, listener: socket.socket) -> None:
        self._state = state
        self._loaded = loaded
        self._listener = listener
        self._server = uvicorn.Server(uvicorn_config(create_app(state), state.settings))
        self._is_ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="slotmux-http", daemon=True)

    def start(self) -> None:
        """Returns once requests are served. Raises what keeps them from that."""
        self._thread.start()
        self._is_ready.wait()
        if self._failure is not None:
            raise self._failure

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
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._is_ready.set()  # the listener holds what comes before uvicorn takes it
        watching = asyncio.create_task(self._watch())
        await self._server.serve(sockets=[self._listener])
        watching.cancel()

    async def _watch(self) -> None:
        while self._loaded.engine.is_alive:
            await asyncio.sleep(_TICK_S)
        service = self._state.service
        assert service is not None
        service.intake.fail_all(engine_dead())
