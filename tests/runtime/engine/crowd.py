"""Runs requests on the real engine and compares what came out, bit for bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slotmux.runtime.engine.request import FinishReason, Output, Request, SamplingParams, Usage
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.model import Model
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.speculation.costs import Costs

GREEDY = SamplingParams(temperature=0.0, n_logprobs=3)
LOOSE = SamplingParams(temperature=1.2, top_k=40, top_p=0.95, repeat_penalty=1.1, n_logprobs=3)
TIMEOUT_S = 120.0


class IdTokenizer:
    """No text is looked at here; one token ends a sequence now and then."""

    def __init__(self, eog_ids: frozenset[int] = frozenset()) -> None:
        self.eog_ids = eog_ids


class IdDetokenizer:
    """A token is the character of its id."""

    def push(self, token_id: int) -> str:
        return chr(0x4E00 + token_id % 0x4000)

    def flush(self) -> str:
        return ""


@dataclass
class Answer:
    """What one choice got."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    text: str = ""
    reason: FinishReason | None = None
    error: str | None = None
    usage: Usage | None = None
    prompt: PromptLogprobs | None = None

    def take(self, output: Output) -> None:
        self.tokens += output.token_ids
        self.logprobs += output.logprobs
        self.text += output.text
        if output.prompt_logprobs is not None:
            assert self.prompt is None
            assert not self.tokens
            self.prompt = output.prompt_logprobs
        if output.finish_reason is not None:
            assert self.reason is None, "a choice ended twice"
            self.reason, self.error, self.usage = output.finish_reason, output.error, output.usage

    @property
    def bits(self) -> tuple[Any, ...]:
        """Everything a client sees, with floats as their exact bits."""
        entries = [
            (e.token_id, e.logprob.hex(), [(i, value.hex()) for i, value in e.top])
            for e in self.logprobs
        ]
        return self.tokens, entries, self.text, self.reason, self._prompt_bits

    @property
    def _prompt_bits(self) -> tuple[bytes, ...]:
        asked = self.prompt
        if asked is None:
            return ()
        arrays = (asked.logprobs, asked.ranks, asked.top_ids, asked.top_logprobs)
        return tuple(array.tobytes() for array in arrays)


class Call:
    """A submitted request and its answers."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.answers = [Answer() for _ in range(request.n)]
        self.done = threading.Event()
        self.request = request
        request.on_output = self._receive
        self._engine = engine
        engine.submit(request)

    def _receive(self, request: Request, outputs: list[Output]) -> None:
        for output in outputs:
            self.answers[output.index].take(output)
        if all(answer.reason is not None for answer in self.answers):
            self.done.set()

    def wait(self) -> list[Answer]:
        assert self.done.wait(TIMEOUT_S), "the request did not end"
        return self.answers

    def abort(self) -> None:
        self._engine.abort(self.request.id)


class Joined(Call):
    """A request that another joins with its first token: ``second`` is submitted on the engine's
    own thread, so that it runs beside this one whatever the threads' timing."""

    def __init__(self, engine: Engine, request: Request, joining: Request) -> None:
        self.second: Call | None = None
        self.ran_beside = False  # whether this one was still running when the second ended
        self._joining = joining
        self._has_joined = threading.Event()
        super().__init__(engine, request)

    def _receive(self, request: Request, outputs: list[Output]) -> None:
        super()._receive(request, outputs)
        if self.second is None:
            self.second = Call(self._engine, self._joining)
            self._has_joined.set()
        elif self.second.done.is_set() and self.answers[0].reason is None:
            self.ran_beside = True

    def wait_for_second(self) -> list[Answer]:
        assert self._has_joined.wait(TIMEOUT_S), "the request had no output"
        assert self.second is not None
        return self.second.wait()


@contextmanager
def serving(
    model: Model, *, eog_ids: Sequence[int] = (), costs: Costs | None = None, **config: Any
) -> Iterator[Engine]:
    """A started engine over fresh, poisoned memory; nothing may be leaked at its end."""
    n_slots = model.config.n_slots
    resolved = EngineConfig(
        n_slots, model.n_ctx, max_queue=10_000, queue_timeout_s=0.0, poison_freed=True, **config
    )
    tokenizer = IdTokenizer(frozenset(eog_ids))
    engine = Engine(model, tokenizer, resolved, new_detokenizer=IdDetokenizer, costs=costs)
    engine.start()
    try:
        yield engine
        assert_idle(engine)
    finally:
        engine.stop()
    assert engine.failure is None
    engine._core.memory.check_integrity()


def assert_idle(engine: Engine) -> None:
    """Nothing runs, and what memory is not free is only cached."""
    end = time.monotonic() + 5.0
    while (stats := engine.stats()).n_slots_busy or stats.n_queued:
        assert time.monotonic() < end, "a slot stayed busy"
        time.sleep(0.002)
    assert stats.n_blocks_free + stats.n_blocks_cached == stats.n_blocks
    assert stats.n_rows_free + stats.n_checkpoints == stats.n_rows


def request_of(prompt: Sequence[int], **options: Any) -> Request:
    """A request that gets its receiver when it is called."""
    options.setdefault("sampling", GREEDY)
    options.setdefault("max_tokens", 16)
    return Request(prompt=list(prompt), on_output=lambda r, o: None, **options)


def copy_of(request: Request, **changes: Any) -> Request:
    return replace(request, id=0, **changes)


def alone(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    """Each by itself, with nothing reused: what everybody must get in any company."""
    return [
        answer
        for request in requests
        for answer in Call(engine, copy_of(request, cache_prompt=False)).wait()
    ]


def together(
    engine: Engine, requests: Sequence[Request], pauses: Sequence[float] = (), **changes: Any
) -> list[Answer]:
    """All at once, or each ``pauses[i]`` seconds after the one before."""
    calls = []
    for i, request in enumerate(requests):
        if pauses:
            time.sleep(pauses[i])
        calls.append(Call(engine, copy_of(request, **changes)))
    return [answer for call in calls for answer in call.wait()]


def assert_equal(name: str, got: Sequence[Answer], want: Sequence[Answer]) -> None:
    """Equal tokens, logprob bits, text and end, and no error."""
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.error is None, f"{name}: choice {i}: {a.error}"
        assert a.bits == b.bits, f"{name}: choice {i} differs: {a.tokens} instead of {b.tokens}"


def mixed_requests(prompts: Sequence[Sequence[int]], n: int, seed: int = 0) -> list[Request]:
    """Greedy and sampled ones of many lengths; some are prefixes of others, some end early."""
    rng = np.random.default_rng(seed)
    requests = []
    for i in range(n):
        prompt = list(prompts[i % len(prompts)])
        start = int(rng.integers(0, len(prompt) // 2)) if i % 3 else 0
        end = start + 1 + int(rng.integers(1, len(prompt) - start))
        sampling = replace(LOOSE, seed=1000 + i) if i % 2 else GREEDY
        requests.append(
            request_of(
                prompt[start:end],
                sampling=sampling,
                max_tokens=int(rng.integers(1, 24)),
                min_tokens=int(rng.integers(0, 2)),
                n_prompt_logprobs=i % 5 if i % 4 == 1 else -1,
            )
        )
    return requests
