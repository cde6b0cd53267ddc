"""A replica: one slotmux in the process of a Ray actor, with cores and a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import ray
import uvicorn
from fastapi import FastAPI
from ray import serve

from slotmux.deploy.ray.asked import Asked, Found, Headers, Lease, Probe
from slotmux.deploy.ray.cores import OwnCores
from slotmux.deploy.ray.inside import call
from slotmux.deploy.ray.leases import Leases
from slotmux.deploy.ray.options import ModelOptions
from slotmux.deploy.ray.prober import Prober, WithoutProbes
from slotmux.deploy.ray.scrape import Scraped
from slotmux.server.http.app import create_app
from slotmux.server.http.errors import engine_dead
from slotmux.server.loading.assemble import assemble
from slotmux.server.process.logs import LOGGER, set_up_logging
from slotmux.server.process.serve import uvicorn_config
from slotmux.server.process.state import ServerState, Service

_TICK_S = 0.25
_LAST_WORDS_S = 5.0  # for answers that still run when Ray has waited long enough


class Replica:
    """Ray calls its methods on one event loop, where the server lives, too."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, name: str, options: dict[str, Any]
    ) -> None:
        chosen = ModelOptions.model_validate(options)
        host = chosen.host or ray.util.get_node_ip_address()
        self._settings = settings = chosen.settings_at(host, name)
        set_up_logging(settings.log_level, settings.log_format)
        logging.getLogger(LOGGER).addFilter(WithoutProbes())
        self.id = serve.get_replica_context().replica_id.unique_id
        self._cores = await asyncio.to_thread(OwnCores, settings.caches / "ray", chosen.cores)
        loaded = await asyncio.to_thread(assemble, settings)
        await asyncio.to_thread(loaded.engine.start)
        self._state = ServerState(settings)
        self._http: FastAPI = create_app(self._state)
        self._state.become_ready(loaded)
        self._prober = Prober(self._state)
        self._leases = Leases(self._http)
        self._listen(host)
        self._watcher = asyncio.create_task(self._watch())

    def _listen(self, host: str) -> None:
        listener = socket.create_server((host, 0), backlog=512)
        self._url = f"http://{host}:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn_config(self._leases, self._settings))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    @property
    def _service(self) -> Service:
        service = self._state.service
        assert service is not None
        return service

    async def lease(self, asked: Asked) -> AsyncIterator[Lease]:
        """A place for one request, which goes to its URL and names it; ends when that has ended."""
        place = self._leases.open()
        try:
            yield Lease(place.id, self.id, self._url)
            await place.until_over()
        finally:
            self._leases.drop(place)

    async def found(self, probe: Probe) -> Found:
        """What is in memory of a request's prompt."""
        return await self._prober.found(probe)

    async def told(self) -> dict[str, Any]:
        """Who it is, and where."""
        return {"replica": self.id, "url": self._url, "pid": os.getpid()}

    async def scraped(self, headers: Headers) -> Scraped:
        """Its /metrics, as whoever sends ``headers`` may see them."""
        status, body = await call(self._http, "GET", "/metrics", headers)
        return Scraped(self.id, status, body.decode())

    def check_health(self) -> None:
        """Raises where Ray should replace it."""
        if not self._service.loaded.engine.is_alive:
            raise RuntimeError("the engine has stopped")
        if self._service.pulse.stalled_s > self._settings.hang_timeout:
            raise RuntimeError("the engine hangs")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._service.pulse.observe(asyncio.get_running_loop().time())
            if not self._service.loaded.engine.is_alive:
                self._service.intake.fail_all(engine_dead())

    async def __del__(self) -> None:
        """Ray has waited for its leases by now."""
        if not hasattr(self, "_watcher"):  # it never got so far
            return
        self._watcher.cancel()
        await self._service.intake.drain(_LAST_WORDS_S)
        self._server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving
        await asyncio.to_thread(self._service.loaded.engine.stop, 1.0)
        self._prober.close()
        self._state.close()
        self._cores.close()


class IngressReplica(Replica):
    """A replica whose app Ray's own proxies speak to."""

    async def __serve_build_asgi_app__(self) -> FastAPI:
        return self._http
