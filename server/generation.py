"""One HTTP request's generation: its engine requests, their Outputs, and their end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.request import FinishReason, Output, Request, Usage
from server.errors import ApiError, engine_dead, internal, shutting_down, timed_out

if TYPE_CHECKING:
    from server.admission import Admission

# A reader that stalls is ended by the write timeout; this bounds what piles up until then.
MAX_PENDING = 4096

Choice = tuple[int, Output]  # index among all choices of the HTTP request, and its Output


@dataclass(slots=True)
class Sink:
    """Where the Outputs of one engine request go; choice 0 of it has the index ``base``."""

    generation: Generation
    base: int
    request: Request | None = None
    n_unfinished: int = 0

    def receive(self, outputs: list[Output], now: float) -> None:
        """Called on the event loop, once per step."""
        self.generation.take(self, outputs, now)


@dataclass(slots=True)
class Timeline:
    """Moments on the event loop's clock."""

    start: float
    first: float = 0.0
    last: float = 0.0


@dataclass(slots=True, eq=False)
class Generation:
    """Lives on the event loop. Ends by itself when every choice has finished, or by ``fail``."""

    admission: Admission
    timeline: Timeline
    label: str = ""
    n_unfinished: int = 0
    sinks: list[Sink] = field(default_factory=list)
    usages: dict[int, Usage] = field(default_factory=dict)
    finishes: dict[int, FinishReason] = field(default_factory=dict)
    failure: ApiError | None = None
    is_closed: bool = False
    _pending: list[Choice] = field(default_factory=list)
    _waiter: asyncio.Future[None] | None = None

    def take(self, sink: Sink, outputs: list[Output], now: float) -> None:
        """Keeps Outputs until the consumer asks for them."""
        if self.is_closed or self.failure is not None:
            return
        for output in outputs:
            if output.finish_reason is not None:
                self._finish(sink, output)
            self._pending.append((sink.base + output.index, output))
        self._observe(outputs, now)
        if len(self._pending) > MAX_PENDING:
            self.fail(timed_out("the client reads too slowly"))
        self._wake()

    def fail(self, error: ApiError) -> None:
        """Ends the generation with an error, which the consumer will tell the client."""
        if self.failure is None and not self.is_closed:
            self.failure = error
            self._abort_requests()
            self._wake()

    def close(self) -> None:
        """The consumer is gone or has all it needs: gives back whatever still runs."""
        if not self.is_closed:
            self.is_closed = True
            self._abort_requests()
            self.admission.forget(self)

    @property
    def is_done(self) -> bool:
        """Whether all choices have finished (their last Outputs may still be pending)."""
        return self.n_unfinished == 0

    async def next(self, timeout: float | None = None) -> list[Choice]:
        """All Outputs since the last call, at least one; none after ``timeout`` seconds of silence.

        Raises the ApiError that ended the generation.
        """
        if not self._pending and self.failure is None:
            await self._wait(timeout)
        if self.failure is not None:
            raise self.failure
        pending, self._pending = self._pending, []
        return pending

    def nudge(self) -> None:
        """Makes a waiting ``next`` return without Outputs."""
        self._wake()

    async def _wait(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self, sink: Sink, output: Output) -> None:
        sink.n_unfinished -= 1
        self.n_unfinished -= 1
        index = sink.base + output.index
        reason = output.finish_reason
        assert reason is not None
        self.finishes[index] = reason
        if output.usage is not None:
            self.usages[index] = output.usage
        if reason is FinishReason.ERROR:
            self.fail(self._error_of(output))
        elif reason is FinishReason.ABORT:
            self.fail(shutting_down())

    def _error_of(self, output: Output) -> ApiError:
        if not self.admission.engine.is_alive:
            return engine_dead()
        if output.error is None:
            return internal()
        return ApiError(500, output.error, code="generation_failed")

    def _observe(self, outputs: list[Output], now: float) -> None:
        n_tokens = 0
        for output in outputs:
            n_tokens += len(output.token_ids)
        if n_tokens == 0:
            return
        latencies = self.admission.latencies
        timeline = self.timeline
        if timeline.first == 0.0:
            timeline.first = now
            latencies.first_token.observe(now - timeline.start)
        else:
            latencies.inter_token.observe(now - timeline.last)
        timeline.last = now

    def _abort_requests(self) -> None:
        for sink in self.sinks:
            if sink.n_unfinished > 0 and sink.request is not None:
                self.admission.engine.abort(sink.request.id)
