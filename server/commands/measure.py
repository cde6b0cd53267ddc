"""What a benchmark runs: prompts and generations on a model's slots, timed; prints nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from slotmux.runtime.driver import Driver
from slotmux.runtime.interfaces import ModelLike

Step = list[tuple[int, list[int]]]  # one forward: (slot, its next tokens)


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure: prompts of ``n_prompt`` and generations of ``n_gen`` tokens (0: none) for
    each number of sequences, after each depth."""

    n_prompt: int
    n_gen: int
    depths: list[int]
    parallels: list[int]
    n_repeats: int

    @property
    def n_ctx(self) -> int:
        return max(self.depths) + max(self.n_prompt, self.n_gen)

    @property
    def n_slots(self) -> int:
        return max(self.parallels) * (2 if max(self.depths) else 1)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One test: medians over the repeats."""

    test: str
    n_parallel: int
    depth: int
    tokens_per_second: float
    forwards_per_second: float


def measure(model: ModelLike, plan: BenchPlan) -> Iterator[Measurement]:
    """Run every test of the plan, in the order depth, parallel, pp before tg."""
    lanes = Lanes(model, plan)
    for depth in plan.depths:
        lanes.deepen(depth)
        for n_parallel in plan.parallels:
            if plan.n_prompt:
                yield _measure_prompt(lanes, plan, n_parallel)
            if plan.n_gen:
                yield _measure_generation(lanes, plan, n_parallel)


class Lanes:
    """Sequences that can be put back to the same depth again and again.

    The first half of the model's slots are measured in; each slot of the other half holds the
    tokens up to the depth and is never changed, only forked.
    """

    def __init__(self, model: ModelLike, plan: BenchPlan) -> None:
        self.model = model
        self.driver = Driver(model, n_ctx=plan.n_ctx)
        self.depth = 0
        self._n_lanes = max(plan.parallels)
        for lane in range(self._n_lanes if max(plan.depths) else 0):
            self.driver.open(self._n_lanes + lane)

    def deepen(self, depth: int) -> None:
        """From now on begin at ``depth``, at least as deep as before."""
        n_ubatch = self.model.ubatch.n_ubatch
        for lane in range(self._n_lanes if depth else 0):
            for start in range(self.depth, depth, n_ubatch):
                tokens = _tokens(self.model, lane + start, min(n_ubatch, depth - start))
                self.driver.feed([(self._n_lanes + lane, tokens)], outputs="none")
        self.depth = depth

    def begin(self, n_parallel: int) -> None:
        """Open the first lanes, each with cells of its own up to the depth."""
        sequences = self.driver.memory.sequences
        for lane in range(n_parallel):
            self.driver.open(lane)
            if self.depth:
                sequences[self._n_lanes + lane].fork(sequences[lane])

    def end(self, n_parallel: int) -> None:
        for lane in range(n_parallel):
            self.driver.close(lane)


def _measure_prompt(lanes: Lanes, plan: BenchPlan, n_parallel: int) -> Measurement:
    tokens = _tokens(lanes.model, lanes.depth, plan.n_prompt)
    steps = list(_prompt_steps(tokens, n_parallel, lanes.model.ubatch.n_ubatch))
    return _measure_steps(f"pp{plan.n_prompt}", lanes, plan, n_parallel, steps)


def _measure_generation(lanes: Lanes, plan: BenchPlan, n_parallel: int) -> Measurement:
    """Each sequence has a text of its own: equal ones would take the same experts of a mixture."""
    texts = [
        _tokens(lanes.model, lanes.depth + i * plan.n_gen, plan.n_gen) for i in range(n_parallel)
    ]
    steps = [[(lane, [text[i]]) for lane, text in enumerate(texts)] for i in range(plan.n_gen)]
    return _measure_steps(f"tg{plan.n_gen}", lanes, plan, n_parallel, steps)


def _prompt_steps(tokens: list[int], n_parallel: int, n_ubatch: int) -> Iterator[Step]:
    """The same prompt in each lane, one after the other, ubatches filled to the brim."""
    step: Step = []
    n_free = n_ubatch
    for lane in range(n_parallel):
        rest = tokens
        while rest:
            step.append((lane, rest[:n_free]))
            rest, n_free = rest[n_free:], n_free - len(step[-1][1])
            if n_free == 0:
                yield step
                step, n_free = [], n_ubatch
    if step:
        yield step


def _measure_steps(
    test: str, lanes: Lanes, plan: BenchPlan, n_parallel: int, steps: list[Step]
) -> Measurement:
    """Median over the repeats, after one that is not counted."""
    times = []
    for repeat in range(plan.n_repeats + 1):
        lanes.begin(n_parallel)
        start = time.perf_counter()
        for step in steps:
            lanes.driver.feed(step, outputs="last")
        if repeat:
            times.append(time.perf_counter() - start)
        lanes.end(n_parallel)
    seconds = statistics.median(times)
    n_tokens = sum(len(run) for step in steps for _, run in step)
    return Measurement(test, n_parallel, lanes.depth, n_tokens / seconds, len(steps) / seconds)


def _tokens(model: ModelLike, start: int, n: int) -> list[int]:
    """Tokens spread over the vocabulary, so that no embedding row is read twice in a row."""
    return [(start + i) * 7919 % model.n_vocab for i in range(n)]
