"""`slotmux bench`: tokens a second and bytes a second of one model file, without the server."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from runtime.gguf import open_gguf
from runtime.protocols import Model
from server.commands.bandwidth import measure_bandwidth
from server.commands.cores import n_usable_cores
from server.commands.loading import load, locate
from server.commands.options import (
    CacheTypeKOpt,
    CacheTypeVOpt,
    CommandError,
    IsaOpt,
    JsonOpt,
    ModelArg,
    ThreadsOpt,
    UbatchOpt,
    option,
    parse_counts,
)
from server.commands.sequences import Outputs, Sequences
from server.commands.weights import bytes_per_forward


@dataclass(frozen=True, slots=True)
class Plan:
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


@dataclass(frozen=True, slots=True)
class Measurement:
    """One test: medians over the repeats."""

    test: str
    n_parallel: int
    depth: int
    tokens_per_second: float
    forwards_per_second: float


def bench(
    model: ModelArg = "demo",
    n_prompt: Annotated[
        int, option("--n-prompt", "-p", min=0, help="Tokens of a prompt; 0: no such test.")
    ] = 512,
    n_gen: Annotated[
        int, option("--n-gen", "-n", min=0, help="Tokens to generate; 0: no such test.")
    ] = 128,
    depth: Annotated[
        str, option("--depth", "-d", help="Tokens already in each sequence, such as 0,4096.")
    ] = "0",
    threads: ThreadsOpt = 0,
    parallel: Annotated[
        str, option("--parallel", help="Sequences computed together, such as 1,8.")
    ] = "1",
    repeats: Annotated[int, option("--repeats", "-r", min=1, help="Times each test is run.")] = 3,
    ubatch: UbatchOpt = 512,
    isa: IsaOpt = "auto",
    cache_type_k: CacheTypeKOpt = "f16",
    cache_type_v: CacheTypeVOpt = "f16",
    as_json: JsonOpt = False,
) -> None:
    """Measure prompt (pp) and generation (tg) speed, in tokens/s of all sequences together.

    GB/s are the bytes of weights in the file, times forwards a second; the percentage says how
    much of the memory bandwidth, measured first, that is. With --json one object a line:
    test, n_threads, n_parallel, depth, tokens_per_second (median), gb_per_second.
    """
    depths, parallels = parse_counts(depth, "--depth", 0), parse_counts(parallel, "--parallel", 1)
    plan = Plan(n_prompt, n_gen, sorted(set(depths)), sorted(set(parallels)), repeats)
    if not (n_prompt or n_gen):
        raise CommandError("--n-prompt 0 and --n-gen 0 leave nothing to measure")
    n_threads = threads or n_usable_cores()
    path = locate(model)
    n_bytes = bytes_per_forward(open_gguf(path))
    loaded = load(
        path,
        n_ctx=plan.n_ctx,
        n_slots=max(parallels),
        n_checkpoints=1,
        n_ubatch=ubatch,
        n_threads=n_threads,
        isa=isa,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
    )
    try:
        if as_json:
            for result in measure(loaded, plan):
                print(json.dumps(_as_json(result, n_threads, n_bytes)), flush=True)
        else:
            bandwidth = measure_bandwidth(n_threads)
            title = f"{path.name}: {n_threads} threads, memory reads {bandwidth / 1e9:.1f} GB/s"
            _print_table(title, measure(loaded, plan), n_bytes, bandwidth)
    finally:
        loaded.close()


def measure(model: Model, plan: Plan) -> Iterator[Measurement]:
    """Run every test of the plan, in the order depth, parallel, pp before tg."""
    sequences = Sequences(model, max(plan.parallels), plan.n_ctx)
    for depth in plan.depths:
        sequences.reset()
        sequences.prefill(0, _tokens(model, 0, depth))
        sequences.save(0)
        for seq in range(1, sequences.n_seqs):
            sequences.fork(0, seq, depth)
        for n_parallel in plan.parallels:
            if plan.n_prompt:
                yield _measure_prompt(sequences, plan, depth, n_parallel)
            if plan.n_gen:
                yield _measure_generation(sequences, plan, depth, n_parallel)


def _measure_prompt(sequences: Sequences, plan: Plan, depth: int, n_parallel: int) -> Measurement:
    tokens = _tokens(sequences.model, depth, plan.n_prompt)

    def run() -> int:
        return _forward_prompts(sequences, tokens, n_parallel)

    seconds, n_forwards = _median_time(sequences, plan, depth, n_parallel, run)
    n_tokens = plan.n_prompt * n_parallel
    return Measurement(
        f"pp{plan.n_prompt}", n_parallel, depth, n_tokens / seconds, n_forwards / seconds
    )


def _measure_generation(
    sequences: Sequences, plan: Plan, depth: int, n_parallel: int
) -> Measurement:
    tokens = _tokens(sequences.model, depth, plan.n_gen)

    def run() -> int:
        for token in tokens:
            sequences.forward({seq: [token] for seq in range(n_parallel)}, Outputs.LAST)
        return len(tokens)

    seconds, n_forwards = _median_time(sequences, plan, depth, n_parallel, run)
    n_tokens = plan.n_gen * n_parallel
    return Measurement(
        f"tg{plan.n_gen}", n_parallel, depth, n_tokens / seconds, n_forwards / seconds
    )


def _forward_prompts(sequences: Sequences, tokens: list[int], n_parallel: int) -> int:
    """The same prompt in each sequence, ubatches filled to the brim; returns the forwards."""
    n_ubatch = sequences.model.ubatch.n_ubatch
    n_forwards, runs, n_free = 0, dict[int, list[int]](), n_ubatch
    for seq in range(n_parallel):
        rest = tokens
        while rest:
            runs[seq], rest = rest[:n_free], rest[n_free:]
            n_free -= len(runs[seq])
            if n_free == 0 or (seq == n_parallel - 1 and not rest):
                sequences.forward(runs, Outputs.LAST)
                n_forwards, runs, n_free = n_forwards + 1, {}, n_ubatch
    return n_forwards


def _median_time(
    sequences: Sequences, plan: Plan, depth: int, n_parallel: int, run: Callable[[], int]
) -> tuple[float, int]:
    """Median seconds of a run from ``depth`` on, after an uncounted one, and its forwards."""
    times = []
    n_forwards = 0
    for repeat in range(plan.n_repeats + 1):
        for seq in range(n_parallel):
            sequences.rewind(seq, depth)
        start = time.perf_counter()
        n_forwards = run()
        if repeat:
            times.append(time.perf_counter() - start)
    return statistics.median(times), n_forwards


def _tokens(model: Model, start: int, n: int) -> list[int]:
    """Tokens spread over the vocabulary, so that no embedding row is read twice in a row."""
    return [(start + i) * 7919 % model.n_vocab for i in range(n)]


def _as_json(result: Measurement, n_threads: int, n_bytes: int) -> dict[str, str | int | float]:
    return {
        "test": result.test,
        "n_threads": n_threads,
        "n_parallel": result.n_parallel,
        "depth": result.depth,
        "tokens_per_second": result.tokens_per_second,
        "gb_per_second": result.forwards_per_second * n_bytes / 1e9,
    }


def _print_table(
    title: str, results: Iterator[Measurement], n_bytes: int, bandwidth: float
) -> None:
    """A line as soon as its test is done: tests at depth take minutes on large models."""
    print(title)
    print(
        f"{'test':<8}{'parallel':>10}{'depth':>8}{'tokens/s':>12}{'GB/s':>9}{'% of bandwidth':>17}"
    )
    for result in results:
        rate = result.forwards_per_second * n_bytes
        print(
            f"{result.test:<8}{result.n_parallel:>10}{result.depth:>8}"
            f"{result.tokens_per_second:>12.1f}{rate / 1e9:>9.2f}{100 * rate / bandwidth:>17.0f}",
            flush=True,
        )
