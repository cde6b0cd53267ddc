"""The engine of an encoder: the same door as the engine of sequences, and steps of whole texts."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import deepcopy
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.encoder import Text
from slotmux.runtime.engine.request import (
    EngineStoppedError,
    FinishReason,
    InvalidRequestError,
    Output,
    QueueFullError,
    Request,
    Usage,
)
from slotmux.runtime.engine.stats import EngineStats, Meter
from slotmux.runtime.engine.texts.line import TextLine, Waiting
from slotmux.runtime.engine.thread import IDLE_HEARTBEAT_S, EngineThread
from slotmux.runtime.interfaces import Meanwhile

if TYPE_CHECKING:
    from slotmux.runtime.engine.core import Core

log = logging.getLogger(__name__)
T = TypeVar("T")
# Tokens of a step, unless a text has more: enough that what a step costs beside its tokens is lost
# in them, few enough that nobody waits long for the next.
STEP_TOKENS = 512
MAX_WAITING = 1024  # texts; what is more waits outside


class EncoderLike(Protocol):
    """The part of runtime/encoder.py's Encoder that is needed here."""

    n_ctx: int
    n_vocab: int
    n_texts: int

    @property
    def n_ubatch(self) -> int: ...
    @property
    def progress(self) -> int: ...
    def encode(
        self, texts: Sequence[Text], meanwhile: Meanwhile = ...
    ) -> list[NDArray[np.float32]]: ...


class TextEngine(EngineThread):
    """Serves texts on an encoder, which stays the caller's."""

    def __init__(self, encoder: EncoderLike, max_queue: int, queue_timeout_s: float) -> None:
        super().__init__()
        self.n_ctx = encoder.n_ctx
        self._encoder, self._max_queue = encoder, max_queue
        self._queue_timeout_s = queue_timeout_s
        self._meter = Meter()
        self._line = TextLine()
        self._inbox: deque[Waiting] = deque()
        self._gone: deque[tuple[int, FinishReason]] = deque()
        self._unsent: list[tuple[Request, Output]] = []
        self._taken: list[Waiting] = []  # of the step under way

    # -- for callers

    def submit(self, request: Request) -> int:
        """Queue a request; returns the id it now has.

        Raises InvalidRequestError, QueueFullError or EngineStoppedError; then nothing was taken.
        """
        try:
            tokens = self._checked(request)
        except InvalidRequestError:
            self._meter.on_reject("invalid")
            raise
        with self._wake:
            if not self.is_alive or self._is_draining:
                self._meter.on_reject("stopped")
                raise EngineStoppedError("the engine takes no new requests")
            self._check_queue(request)
            self._n_ids += 1
            request.id = self._n_ids
            self._inbox.append(Waiting(request, tokens, time.monotonic()))
            self._wake.notify()
        return request.id

    def _checked(self, request: Request) -> NDArray[np.int32]:
        n = len(request.prompt)
        if not request.wants_vector:
            message = "this model gives vectors of texts and generates nothing"
            raise InvalidRequestError("model", message, "model_not_generative")
        if not 0 < n <= self.n_ctx:
            message = f"the text has {n} tokens; the model reads 1 to {self.n_ctx} at once"
            raise InvalidRequestError("input", message, "context_length_exceeded")
        tokens = np.array(request.prompt, np.int32)
        if tokens.min() < 0 or tokens.max() >= self._encoder.n_vocab:
            raise InvalidRequestError("input", "a token id is outside the vocabulary")
        return tokens

    def _check_queue(self, request: Request) -> None:
        """Requests count, and of their texts only what cannot all be held here."""
        n_requests = self._line.n_requests + sum(w.request.is_first for w in list(self._inbox))
        if request.is_first and n_requests >= max(self._max_queue, 1):
            self._meter.on_reject("queue_full")
            raise QueueFullError(self._meter.retry_after(n_requests, 1))
        if not request.is_first and len(self._line) + len(self._inbox) >= MAX_WAITING:
            raise QueueFullError(1)

    def abort(self, request_id: int) -> None:
        """Take a text out of the line; no-op when it is not in it."""
        self._leave(request_id, FinishReason.ABORT)

    def cut(self, request_id: int) -> None:
        """The same, finish reason LENGTH: its time is over."""
        self._leave(request_id, FinishReason.LENGTH)

    def _leave(self, request_id: int, reason: FinishReason) -> None:
        with self._wake:
            self._gone.append((request_id, reason))
            self._wake.notify()

    def errand(self, run: Callable[[Core], T]) -> Future[T]:
        """There are no sequences here that anything could be done with."""
        raise InvalidRequestError("model", "this model has no slots and no prefix cache")

    def stats(self) -> EngineStats:
        """A snapshot of the line, counters and times; there are no slots and no cells."""
        meter = self._meter
        return EngineStats(
            slots=(), n_ctx=self.n_ctx, n_queued=len(self._line) + len(self._inbox),
            n_slots_busy=0, n_blocks=0, n_blocks_free=0, n_blocks_cached=0, n_rows=0,
            n_rows_free=0, n_checkpoints=0, counters=deepcopy(meter.counters),
            step=meter.step.snapshot(), ttft=meter.ttft.snapshot(), itl=meter.itl.snapshot(),
            e2e=meter.e2e.snapshot(), queue=meter.queue.snapshot(),
            prompt=meter.prompt.snapshot(), generate=meter.generate.snapshot(),
            heartbeat_age_s=time.monotonic() - self._heartbeat,
            progress=self._encoder.progress, max_step_s=meter.max_step_s,
            is_draining=self._is_draining,
        )  # fmt: skip

    # -- the thread

    @property
    def _progress(self) -> int:
        return self._encoder.progress

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._step()
        except BaseException as error:
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Take requests in; sleep while there is nothing to do. False = the end."""
        while True:
            self._heartbeat = now = time.monotonic()
            self._take_in(now)
            if self._line:
                return True
            self._deliver()
            with self._wake:
                if self._inbox or self._gone:
                    continue
                if self._is_draining:
                    return False
                self._wake.wait(IDLE_HEARTBEAT_S)

    def _take_in(self, now: float) -> None:
        while self._inbox:
            text = self._inbox.popleft()
            self._line.add(text)
            self._meter.counters.n_requests += 1
        while self._gone:
            request_id, reason = self._gone.popleft()
            gone = self._line.remove(request_id)
            if gone is not None:
                self._end(gone, reason, now)
        if self._is_stopping:
            self._end_all("the server is shutting down", "server_shutdown", FinishReason.ABORT)
        elif self._queue_timeout_s:
            for text in [w for w in self._line if now - w.t_submitted > self._queue_timeout_s]:
                self._line.remove(text.request.id)
                self._meter.on_reject("queue_timeout")
                self._end(text, FinishReason.ERROR, now, "its turn did not come", "queue_timeout")

    def _step(self) -> None:
        encoder = self._encoder
        taken = self._taken = self._line.take(STEP_TOKENS, encoder.n_ubatch, encoder.n_texts)
        begin = time.monotonic()
        for waiting in taken:
            waiting.request.progress.t_admitted = begin
        texts = [Text(waiting.tokens, waiting.request.n_first) for waiting in taken]
        vectors = encoder.encode(texts, self._deliver)
        end = time.monotonic()
        self._meter.on_step(len(taken), end - begin)
        for waiting, vector in zip(taken, vectors, strict=True):
            n = len(waiting.tokens)
            self._meter.counters.n_prompt_tokens += n
            self._meter.counters.n_tokens_max = max(self._meter.counters.n_tokens_max, n)
            waiting.request.progress.n_computed = n
            self._end(waiting, FinishReason.STOP, end, begin=begin, vector=vector)
        self._taken = []

    def _end(
        self,
        waiting: Waiting,
        reason: FinishReason,
        now: float,
        error: str | None = None,
        code: str | None = None,
        begin: float = 0.0,
        vector: NDArray[np.float32] | None = None,
    ) -> None:
        """Send a text's one Output."""
        if vector is not None and not np.isfinite(vector).all():
            reason, vector = FinishReason.ERROR, None
            error, code = "the model gave no numbers for this text", "server_error"
        begin = begin or now
        usage = Usage(
            n_prompt=len(waiting.tokens), n_cached=0, n_generated=0,
            queue_s=begin - waiting.t_submitted, prompt_s=now - begin, generate_s=0.0,
        )  # fmt: skip
        self._meter.on_finish(reason, usage)
        service = usage.queue_s + usage.prompt_s
        self._meter.service_s = 0.9 * self._meter.service_s + 0.1 * service
        output = Output(
            0, finish_reason=reason, error=error, error_code=code, usage=usage, vector=vector
        )
        self._unsent.append((waiting.request, output))

    def _deliver(self) -> None:
        unsent, self._unsent = self._unsent, []
        for request, output in unsent:
            request.on_output(request, [output])

    def _end_all(self, error: str, code: str, reason: FinishReason) -> None:
        now = time.monotonic()
        for text in self._line:
            self._line.remove(text.request.id)
            self._taken.append(text)
        for text in self._taken:
            self._end(text, reason, now, error, code)
        self._taken = []
        self._deliver()

    def _fail(self, error: BaseException) -> None:
        log.critical("the engine has failed", exc_info=error)
        with self._wake:
            self.failure = error
            self._is_draining = True
            while self._inbox:
                self._line.add(self._inbox.popleft())
        self._end_all("the server had an error", "server_error", FinishReason.ERROR)
