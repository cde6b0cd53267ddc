"""The door to the engine: submits requests, keeps track of what runs, and ends it at shutdown."""

from __future__ import annotations

import asyncio
from collections import Counter

from slotmux.runtime.engine.request import (
    EngineStoppedError,
    InvalidRequestError,
    QueueFullError,
    Request,
)
from slotmux.server.answers.bridge import Bridge
from slotmux.server.answers.generation import Generation, Sink, Timeline
from slotmux.server.http.errors import ApiError, engine_dead, invalid, queue_full, shutting_down
from slotmux.server.interfaces import EnginePort


class Intake:
    """Lives on the event loop; one for an engine."""

    def __init__(self, engine: EnginePort, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.bridge = Bridge(loop)
        self.running: set[Generation] = set()
        self.n_aborted: Counter[str] = Counter()  # by cause
        self.is_draining = False
        self._loop = loop

    def start(self, requests: list[Request]) -> Generation:
        """Submits all of ``requests``, or none. Raises ApiError (400, 429, 503)."""
        if self.is_draining:
            raise shutting_down()
        generation = Generation(self.engine, Timeline(self._loop.time()), self._forget)
        self.running.add(generation)
        try:
            for request in requests:
                self._submit(generation, request)
        except BaseException:
            generation.close()
            raise
        return generation

    def _forget(self, generation: Generation) -> None:
        self.running.discard(generation)
        if generation.failure is not None:
            self.n_aborted[str(generation.failure.code)] += 1

    def fail_all(self, error: ApiError) -> None:
        """Ends everything that runs, with an error its clients will see."""
        for generation in list(self.running):
            generation.fail(error)

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new; waits for what runs, then ends it. Returns when all clients know."""
        self.is_draining = True
        await self._until_idle(timeout_s)
        self.fail_all(shutting_down())
        await self._until_idle(1.0)

    async def _until_idle(self, timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while self.running and self._loop.time() < deadline:
            await asyncio.sleep(0.02)

    def _submit(self, generation: Generation, request: Request) -> None:
        base = sum(sink.n_choices for sink in generation.sinks)
        sink = Sink(generation, base, request, n_choices=request.n)
        request.context = sink
        request.on_output = self.bridge.on_output
        try:
            request.id = self.engine.submit(request)
        except QueueFullError as error:
            raise queue_full(error.retry_after, is_share=error.is_share) from None
        except EngineStoppedError:
            raise shutting_down() if self.engine.failure is None else engine_dead() from None
        except InvalidRequestError as error:
            raise invalid(error.field, str(error), error.code or "invalid_value") from None
        sink.n_unfinished = request.n
        generation.sinks.append(sink)
