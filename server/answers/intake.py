"""The door to the engine: submits requests, keeps track of what runs, and ends it at shutdown."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from slotmux.runtime.engine.request import (
    EngineStoppedError,
    InvalidRequestError,
    QueueFullError,
    Request,
)
from slotmux.server.answers.bridge import Bridge
from slotmux.server.answers.generation import MAX_PENDING, Generation, Sink, Timeline
from slotmux.server.http.errors import ApiError, engine_dead, invalid, queue_full, shutting_down
from slotmux.server.interfaces import EnginePort

# Prompts of one HTTP request that are in the engine at once, if nobody says otherwise.
MAX_AT_ONCE = 64
RETRY_S = 0.1  # until a request without any prompt in the engine asks again for a place


class Intake:
    """Lives on the event loop; one for an engine."""

    def __init__(self, engine: EnginePort, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.bridge = Bridge(loop)
        self.running: set[Generation] = set()
        self.n_aborted: Counter[str] = Counter()  # by cause
        self.is_draining = False
        self._loop = loop

    def start(self, requests: list[Request], n_at_once: int = MAX_AT_ONCE) -> Generation:
        """Submits ``requests``: the first ``n_at_once`` that have a place, the others in turn as
        places become free. Raises ApiError (400, 429, 503) if the first has none."""
        if self.is_draining:
            raise shutting_down()
        generation = Generation(self.engine, Timeline(self._loop.time()), self._forget, self._pump)
        self.running.add(generation)
        n_together = min(len(requests), n_at_once)
        base = 0
        for request in requests:
            request.n_together = n_together
            sink = Sink(generation, base, request, n_choices=request.n)
            request.context, request.on_output = sink, self.bridge.on_output
            generation.sinks.append(sink)
            base += request.n
        generation.max_pending = MAX_PENDING * base
        generation.is_scored = any(request.n_prompt_logprobs >= 0 for request in requests)
        generation.waiting, generation.n_at_once = deque(generation.sinks), n_at_once
        try:
            self._submit(generation.waiting[0])
            generation.waiting.popleft()
            self._fill(generation)
        except BaseException:
            generation.close()
            raise
        return generation

    def _fill(self, generation: Generation) -> None:
        """Submits what waits as far as there are places."""
        waiting = generation.waiting
        while waiting and generation.n_submitted < generation.n_at_once:
            try:
                self._submit(waiting[0])
            except ApiError as error:
                if error.code != "queue_full":
                    raise
                if not generation.n_submitted:  # no end of its own will tell that there is room
                    self._loop.call_later(RETRY_S, self._pump, generation)
                return
            waiting.popleft()

    def _pump(self, generation: Generation) -> None:
        """A place may have become free."""
        if generation.is_closed or generation.failure is not None:
            return
        try:
            self._fill(generation)
        except ApiError as error:
            generation.fail(error)

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
        self.fail_all(shutting_down(is_running=True))
        await self._until_idle(1.0)

    async def _until_idle(self, timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while self.running and self._loop.time() < deadline:
            await asyncio.sleep(0.02)

    def _submit(self, sink: Sink) -> None:
        request = sink.request
        try:
            request.id = self.engine.submit(request)
        except QueueFullError as error:
            raise queue_full(error.retry_after, is_share=error.is_share) from None
        except EngineStoppedError:
            raise shutting_down() if self.engine.failure is None else engine_dead() from None
        except InvalidRequestError as error:
            raise invalid(error.field, str(error), error.code or "invalid_value") from None
        sink.n_unfinished = request.n
