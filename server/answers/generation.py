"""One HTTP request's generation: its engine requests, their Outputs, and their end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from slotmux.runtime.engine.request import FinishReason, Output, Request, Usage
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.server.http.errors import (
    ApiError,
    engine_dead,
    internal,
    shutting_down,
    timed_out,
    unavailable,
)
from slotmux.server.interfaces import EnginePort

# A reader that stalls is ended by the write timeout; this bounds what piles up until then, of each
# choice: many choices at once must not make a reader of good pace a slow one.
MAX_PENDING = 4096

ChoiceOutput = tuple[int, Output]  # index among all choices of the HTTP request, and its Output


@dataclass(slots=True)
class Sink:
    """Where the Outputs of one engine request go; choice 0 of it has the index ``base``."""

    generation: Generation
    base: int
    request: Request
    n_choices: int
    n_unfinished: int = 0

    def receive(self, outputs: list[Output], now: float) -> None:
        """Called on the event loop, once per step."""
        self.generation.take(self, outputs, now)


@dataclass(slots=True)
class Timeline:
    """Moments on the event loop's clock."""

    start: float
    first: float = 0.0  # when the first Output came; 0 = not yet


@dataclass(slots=True, eq=False)
class Generation:
    """Lives on the event loop. Ends by itself when every choice has finished, or by ``fail``.

    ``waiting``: sinks whose requests the engine does not have yet; ``on_room`` is called when one
    that it had has ended.
    """

    engine: EnginePort
    timeline: Timeline
    on_close: Callable[[Generation], None]
    on_room: Callable[[Generation], None]
    waiting: deque[Sink] = field(default_factory=deque)
    n_at_once: int = 1
    sinks: list[Sink] = field(default_factory=list)
    usages: dict[int, Usage] = field(default_factory=dict)
    finishes: dict[int, FinishReason] = field(default_factory=dict)
    scores: dict[int, PromptLogprobs] = field(default_factory=dict)  # by the prompt's first choice
    failure: ApiError | None = None
    is_closed: bool = False
    is_scored: bool = False  # log-probabilities of prompts are wanted
    max_pending: int = 0
    _pending: list[ChoiceOutput] = field(default_factory=list)
    _waiter: asyncio.Future[None] | None = None

    def take(self, sink: Sink, outputs: list[Output], now: float) -> None:
        """Keeps Outputs until the consumer asks for them."""
        if self.is_closed or self.failure is not None:
            return
        for output in outputs:
            if self.is_scored and output.prompt_logprobs is not None:
                self.scores[sink.base] = output.prompt_logprobs
            if output.finish_reason is not None:
                self._finish(sink, output)
            if self.failure is None:
                self._pending.append((sink.base + output.index, output))
        if self.timeline.first == 0.0:
            self.timeline.first = now
        if self.waiting and not sink.n_unfinished:
            self.on_room(self)
        if len(self._pending) > self.max_pending:
            self.fail(timed_out("the client reads more slowly than tokens come"))
        self._wake()

    def fail(self, error: ApiError) -> None:
        """Ends the generation with an error, which the consumer will tell the client."""
        if self.failure is None and not self.is_closed:
            self.failure = error
            self._abort_requests()
            self._wake()

    def cut(self) -> None:
        """Ends what still runs with what it has, as if it had reached its length; prompts whose
        turn never came have nothing, which is an error."""
        if self.waiting:
            self.fail(timed_out("not all prompts had their turn within --request-timeout"))
            return
        for sink in self.sinks:
            if sink.n_unfinished > 0:
                self.engine.cut(sink.request.id)

    def scores_of(self, prompt: int) -> PromptLogprobs | None:
        """Of a prompt's tokens; None if they are not known."""
        return self.scores.get(self.sinks[prompt].base)

    @property
    def n_submitted(self) -> int:
        """Its requests that the engine has and has not ended."""
        return sum(sink.n_unfinished > 0 for sink in self.sinks)

    @property
    def is_admitted(self) -> bool:
        """Whether any of its requests has got a slot."""
        return any(sink.request.progress.t_admitted for sink in self.sinks)

    @property
    def n_computed(self) -> int:
        """Tokens of its prompts that are in memory."""
        return sum(sink.request.progress.n_computed for sink in self.sinks)

    @property
    def is_parked(self) -> bool:
        """Whether any of its requests has lost its slot again and waits for another."""
        return any(sink.request.progress.is_parked for sink in self.sinks)

    def close(self) -> None:
        """The consumer is gone or has all it needs: gives back whatever still runs."""
        if not self.is_closed:
            self.is_closed = True
            self._abort_requests()
            self.on_close(self)

    async def next(self) -> list[ChoiceOutput]:
        """All Outputs since the last call; none if ``nudge`` ended the wait.

        Once they are all delivered, raises the ApiError that ended the generation, if any.
        """
        if not self._pending and self.failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.failure is not None and not self._pending:
            raise self.failure
        pending, self._pending = self._pending, []
        return pending

    def nudge(self) -> None:
        """Makes a waiting ``next`` return without Outputs."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self, sink: Sink, output: Output) -> None:
        sink.n_unfinished -= 1
        index = sink.base + output.index
        reason = output.finish_reason
        assert reason is not None
        self.finishes[index] = reason
        if output.usage is not None:
            self.usages[index] = output.usage
        if reason in (FinishReason.ERROR, FinishReason.ABORT):
            self.fail(self._error_of(output))

    def _error_of(self, output: Output) -> ApiError:
        """What the engine said, with a status: only "server_error" is a bug of ours."""
        if output.error_code == "queue_timeout":
            return unavailable("No slot became free in time (--queue-timeout).", "queue_timeout", 5)
        if output.error_code == "no_memory":
            return unavailable("There was no memory left for this request.", "no_memory", 5)
        if output.error_code == "grammar_failed":
            what = output.error or "the grammar failed"
            return ApiError(400, f"The answer cannot keep to it: {what}.", code="grammar_failed")
        if output.error_code == "server_shutdown" or output.finish_reason is FinishReason.ABORT:
            return shutting_down()
        return internal() if self.engine.is_alive else engine_dead()

    def _abort_requests(self) -> None:
        self.waiting.clear()
        for sink in self.sinks:
            if sink.n_unfinished > 0:
                self.engine.abort(sink.request.id)
