"""From the first signal to the exit code: drain, watch over the engine, end."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import uvicorn

from slotmux.server.http.errors import engine_dead
from slotmux.server.process.logs import LOGGER, describe, is_text
from slotmux.server.process.state import Loaded, ServerState, Service
from slotmux.server.process.welcome import welcome

EXIT_ENGINE_DIED = 70
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TICK_S = 0.25
_log = logging.getLogger(LOGGER)


class Lifecycle(uvicorn.Server):
    """uvicorn's server with our own ending: the first signal drains, the second exits at once."""

    def __init__(self, config: uvicorn.Config, state: ServerState, url: str) -> None:
        super().__init__(config)
        self._url = url
        self.exit_code = 0
        self._state = state
        self._loop: asyncio.AbstractEventLoop | None = None
        self._n_signals = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve_with(self, listener: socket.socket, loader: threading.Thread) -> None:
        """Serves on ``listener``, starts ``loader``, returns when all is over."""
        self._loop = asyncio.get_running_loop()
        loader.start()
        self._spawn(self._watch_engine())
        try:
            await self.serve(sockets=[listener])
        finally:
            faulthandler.cancel_dump_traceback_later()
        for task in self._tasks:
            task.cancel()
        service = self._state.service
        if service is not None and service.loaded.engine.is_alive:
            engine = service.loaded.engine
            await asyncio.to_thread(engine.stop, 1.0)
            # A forward under way is waited for, as long as it gets ahead.
            if engine.is_alive:
                _log.error("the engine did not stop")

    def on_loaded(self, loaded: Loaded) -> None:
        """Any thread: from now on requests are served."""
        self._call(self._become_ready, loaded)

    def end_soon(self, exit_code: int) -> None:
        """Any thread: nothing more to serve."""
        self._call(self._end, exit_code)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's, which would raise the signal again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDING_SIGNALS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs between two bytecodes of the main thread."""
        self._n_signals += 1
        if self._n_signals > 1:
            os._exit(128 + sig)
        self._call(lambda: self._spawn(self._drain()))

    async def _drain(self) -> None:
        _log.info("draining")
        service = self._state.service
        if service is not None:
            await service.intake.drain(self._state.settings.drain_timeout)
        self._end(0)

    async def _watch_engine(self) -> None:
        """Ends the process when the engine's thread is dead or hangs: never a healthy-looking
        server that answers nobody."""
        while True:
            await asyncio.sleep(_TICK_S)
            service = self._state.service
            if service is None:
                continue
            engine = service.loaded.engine
            if not engine.is_alive and not self.should_exit:
                _log.error("the engine died", extra={"fields": describe(engine.failure)})
                service.intake.fail_all(engine_dead())
                await asyncio.sleep(_TICK_S)
                self._end(EXIT_ENGINE_DIED)
                return
            self._watch_for_hangs(service)
            service.history.observe(asyncio.get_running_loop().time())

    def _watch_for_hangs(self, service: Service) -> None:
        """A kernel that never ends is seen here; a loop that is held up, by a thread of
        faulthandler's that needs no GIL: it dumps the stacks and exits with 1."""
        limit = self._state.settings.hang_timeout
        faulthandler.dump_traceback_later(2 * limit, exit=True)
        service.pulse.observe(asyncio.get_running_loop().time())
        if service.pulse.stalled_s > limit:
            _log.error("the engine hangs")
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            os._exit(EXIT_ENGINE_DIED)

    def _become_ready(self, loaded: Loaded) -> None:
        self._state.become_ready(loaded)
        fields = {"model": loaded.info.name, "n_ctx": loaded.info.n_ctx}
        _log.info("ready", extra={"fields": fields | {"n_slots": loaded.info.n_slots}})
        if is_text(self._state.settings.log_format):
            print(welcome(self._url, self._state.settings), file=sys.stderr)

    def _end(self, exit_code: int) -> None:
        if not self.should_exit:
            self.exit_code = exit_code
            self.should_exit = True

    def _call(self, call: Callable[..., None], *args: Any) -> None:
        """On the loop's thread; nothing once the loop is gone."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # closed: everything is over already
            self._loop.call_soon_threadsafe(call, *args)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
