"""From the first signal to the exit code: drain, watch over the engine, end."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import sys
import threading

import uvicorn

from slotmux.server.http.errors import engine_dead
from slotmux.server.process.ending import EndedBySignals
from slotmux.server.process.logs import LOGGER, describe, is_text
from slotmux.server.process.state import Loaded, ServerState, Service
from slotmux.server.process.welcome import welcome

EXIT_ENGINE_DIED = 70
_TICK_S = 0.25
_log = logging.getLogger(LOGGER)


class Lifecycle(EndedBySignals):
    """A server of one model: drains, watches over the engine, ends."""

    def __init__(self, config: uvicorn.Config, state: ServerState, url: str) -> None:
        super().__init__(config)
        self._url = url
        self._state = state

    @property
    def state(self) -> ServerState:
        """What the app's routes share."""
        return self._state

    async def serve_with(self, listener: socket.socket, loader: threading.Thread) -> None:
        """Serves on ``listener``, starts ``loader``, returns when all is over."""
        self._loop = asyncio.get_running_loop()
        loader.start()
        self._spawn(self._watch_engine())
        try:
            await self.serve(sockets=[listener])
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._cancel_tasks()
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
