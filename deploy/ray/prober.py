"""How much of a request's prompt a replica has in memory: its own routes are asked, whatever API
the request speaks, and stopped where they would submit it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import replace

import numpy as np

from slotmux.deploy.ray.asked import Found, Probe
from slotmux.deploy.ray.inside import call
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import Request
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.intake import MAX_AT_ONCE, Intake
from slotmux.server.http.app import create_app
from slotmux.server.http.errors import ApiError
from slotmux.server.process.state import Loaded, ServerState

_PROBED = "probed"


class Prober:
    """A second app over the same model that runs nothing. Event loop of the replica only."""

    def __init__(self, state: ServerState) -> None:
        service = state.ready()
        self._loaded = service.loaded
        self._intake = _Catch(service.loaded)
        own = ServerState(state.settings, grammars=state.grammars)  # compiled once for both
        self._app = create_app(own)
        own.service = replace(service, intake=self._intake)
        self._own = own

    async def found(self, probe: Probe) -> Found:
        """What there is of it. A request that is wrong, or has no prompt, has nothing."""
        stats = self._loaded.engine.stats()
        n_busy, n_slots = stats.n_slots_busy + stats.n_queued, len(stats.slots)
        requests = await self._requests_of(probe)
        if not requests:
            return Found(0, 0, n_busy, n_slots)
        errand = self._loaded.engine.errand(lambda core: _n_cached(core, requests))
        n_cached = await asyncio.wrap_future(errand)
        return Found(sum(len(r.prompt) for r in requests), n_cached, n_busy, n_slots)

    def close(self) -> None:
        """Lets its threads go, and the grammars that it shares: nothing is served any more."""
        self._own.close()

    async def _requests_of(self, probe: Probe) -> list[Request]:
        label = f"probe_{uuid.uuid4().hex}"
        headers = [pair for pair in probe.headers if pair[0] != b"x-request-id"]
        headers.append((b"x-request-id", label.encode()))
        await call(self._app, "POST", probe.path, tuple(headers), probe.body)
        return self._intake.caught.pop(label, [])


class WithoutProbes(logging.Filter):
    """Keeps them out of the log: a line is a request of a client."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        fields: dict[str, object] = getattr(record, "fields", {})
        return fields.get("error") != _PROBED


class _Catch(Intake):
    """Keeps what it is to start."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded.engine, asyncio.get_running_loop())
        self.caught: dict[str, list[Request]] = {}

    def start(self, requests: list[Request], n_at_once: int = MAX_AT_ONCE) -> Generation:
        """Raises ApiError, always."""
        self.caught[requests[0].label] = requests
        raise ApiError(409, "Only the prompt was asked for.", code=_PROBED)


def _n_cached(core: Core, requests: list[Request]) -> int:
    return sum(
        core.memory.n_reusable(np.asarray(request.prompt, np.int32), request.cache_salt)
        for request in requests
        if request.cache_prompt
    )
