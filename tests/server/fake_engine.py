"""An engine without a model: answers with deterministic tokens, from a thread, step by step."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from slotmux.runtime.engine.request import (
    EngineStoppedError,
    FinishReason,
    InvalidRequestError,
    Output,
    QueueFullError,
    Request,
    TokenLogprobs,
    Usage,
)
from slotmux.runtime.engine.stats import TIMES, Counters, EngineStats, HistogramStats, SlotStats
from slotmux.runtime.memory import Memory
from tests.runtime.engine.fake_model import FakeModel

_EMPTY = HistogramStats(TIMES, (0,) * (len(TIMES) + 1), 0.0)


@dataclass
class _Lane:
    """One choice in a slot."""

    request: Request
    index: int
    script: list[int]
    n_generated: int = 0


@dataclass
class FakeEngine:
    """Each choice answers with ``script`` (token ids = bytes), one token a step."""

    n_slots: int = 4
    n_ctx: int = 512
    max_queue: int = 8
    step_s: float = 0.001
    script: bytes = b"Hello w\xc3\xb6rld."
    n_cached: int = 3
    prompt_s: float = 0.0  # how long a prompt takes before its first token
    fail_at: int = -1  # the step in which every request fails
    submitted: list[Request] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    failure: BaseException | None = None
    heartbeat_age_s: float = 0.0
    progress: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[_Lane] = deque()
        self._lanes: list[_Lane | None] = [None] * self.n_slots
        self._n_ids = 0
        self._is_stopping = False
        self._n_steps = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and self.failure is None

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_timeout_s: float = 0.0) -> bool:
        self._is_stopping = True
        self._thread.join(5)
        return not self._thread.is_alive()

    def die(self) -> None:
        """What a bug in the engine looks like from outside."""
        self.failure = RuntimeError("injected")

    def submit(self, request: Request) -> int:
        if not self.is_alive:
            raise EngineStoppedError
        if request.prompt == [1]:
            raise InvalidRequestError("prompt", "the fake engine dislikes this prompt")
        with self._lock:
            n_free = sum(lane is None for lane in self._lanes)
            if len(self._queue) >= self.max_queue + n_free:
                raise QueueFullError(7)
            self._n_ids += 1
            request.id = self._n_ids
            self.submitted.append(request)
            if request.wants_vector:
                self._encode(request)
                return request.id
            script = list(self.script)
            if request.max_tokens > 0:
                script = script[: request.max_tokens]
            self._queue.extend(_Lane(request, index, script) for index in range(request.n))
        return request.id

    def _encode(self, request: Request) -> None:
        """Says how long the prompt is, and its first and last token."""
        n = len(request.prompt)
        vector = np.array([n, request.prompt[0], request.prompt[-1], 1], np.float32)
        usage = Usage(n, 0, 0, 0.001, 0.002, 0.0)
        request.progress.t_admitted = time.monotonic()
        output = Output(0, finish_reason=FinishReason.STOP, usage=usage, vector=vector)
        request.on_output(request, [output])

    def abort(self, request_id: int) -> None:
        self.aborted.append(request_id)
        self._remove(request_id)

    def errand(self, run):
        """On a core that has nothing but an empty memory."""
        model = FakeModel(4, 64, n_blocks=4)
        memory = Memory(model.kv, model.rows, model.ubatch, n_ctx=64)
        future = Future()
        future.set_result(run(SimpleNamespace(memory=memory, tier=None)))
        return future

    def cut(self, request_id: int) -> None:
        request = next(r for r in self.submitted if r.id == request_id)
        n_done = self._remove(request_id)
        usage = Usage(len(request.prompt), self.n_cached, n_done, 0.001, 0.002, 0.003)
        outputs = [
            Output(i, finish_reason=FinishReason.LENGTH, usage=usage) for i in range(request.n)
        ]
        request.on_output(request, outputs)

    def _remove(self, request_id: int) -> int:
        """Take a request out; returns how many tokens its last choice had."""
        n_done = 0
        with self._lock:
            self._queue = deque(lane for lane in self._queue if lane.request.id != request_id)
            for i, lane in enumerate(self._lanes):
                if lane is not None and lane.request.id == request_id:
                    n_done = lane.n_generated
                    self._lanes[i] = None
        return n_done

    @property
    def n_busy(self) -> int:
        return sum(lane is not None for lane in self._lanes)

    def stats(self) -> EngineStats:
        slots = tuple(
            SlotStats(i, "generating" if lane else "idle", lane.request.id if lane else 0,
                      0, 0, 0, 0, lane.n_generated if lane else 0, 0)
            for i, lane in enumerate(self._lanes)
        )  # fmt: skip
        return EngineStats(
            slots=slots, n_ctx=self.n_ctx, n_queued=len(self._queue), n_slots_busy=self.n_busy,
            n_blocks=32, n_blocks_free=30, n_blocks_cached=1, n_rows=0, n_rows_free=0,
            n_checkpoints=0, counters=Counters(n_steps=self._n_steps), step=_EMPTY, ttft=_EMPTY,
            itl=_EMPTY, e2e=_EMPTY, queue=_EMPTY, prompt=_EMPTY, generate=_EMPTY,
            heartbeat_age_s=self.heartbeat_age_s, progress=self.progress,
            max_step_s=0.001, is_draining=False,
        )  # fmt: skip

    def _run(self) -> None:
        while not self._is_stopping and self.failure is None:
            with self._lock:
                self._fill()
                deliveries = self._step()
            for request, outputs in deliveries:
                request.on_output(request, outputs)
            time.sleep(self.step_s)

    def _fill(self) -> None:
        for i, lane in enumerate(self._lanes):
            if lane is None and self._queue:
                self._lanes[i] = lane = self._queue.popleft()
                lane.request.progress.t_admitted = time.monotonic()
                lane.request.progress.slot_id = i
                if self.prompt_s:
                    time.sleep(self.prompt_s)

    def _step(self) -> list[tuple[Request, list[Output]]]:
        by_request: dict[int, tuple[Request, list[Output]]] = {}
        for i, lane in enumerate(self._lanes):
            if lane is None:
                continue
            output = self._token(lane)
            by_request.setdefault(lane.request.id, (lane.request, []))[1].append(output)
            if output.finish_reason is not None:
                self._lanes[i] = None
        self._n_steps += bool(by_request)
        return list(by_request.values())

    def _token(self, lane: _Lane) -> Output:
        n, lane.n_generated = lane.n_generated, lane.n_generated + 1
        usage = Usage(len(lane.request.prompt), self.n_cached, n + 1, 0.001, 0.002, 0.003)
        if n == self.fail_at:
            return Output(lane.index, finish_reason=FinishReason.ERROR, error="it went wrong",
                          error_code="server_error", usage=usage)  # fmt: skip
        token = lane.script[n]
        is_last = n + 1 == len(lane.script)
        is_cut = lane.request.max_tokens == len(lane.script)
        finish = FinishReason.LENGTH if is_cut else FinishReason.STOP
        return Output(
            lane.index,
            text=_text(lane.script, n),
            token_ids=(token,),
            logprobs=self._logprobs(lane.request, token),
            finish_reason=finish if is_last else None,
            usage=usage if is_last else None,
        )

    def _logprobs(self, request: Request, token: int) -> tuple[TokenLogprobs, ...]:
        n_top = request.sampling.n_logprobs
        if n_top < 0:
            return ()
        top = tuple((ord("a") + i, -0.5 - i) for i in range(n_top))
        return (TokenLogprobs(token, -0.25, top),)


def _text(script: list[int], n: int) -> str:
    """Whole characters only: what token ``n`` adds to the text."""

    def whole(count: int) -> str:
        return bytes(script[:count]).decode("utf-8", "ignore")

    return whole(n + 1)[len(whole(n)) :]
