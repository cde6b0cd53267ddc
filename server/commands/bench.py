"""`slotmux bench`: tokens a second and bytes a second of one model file, without the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.server.commands.bandwidth import measure_bandwidth
from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.measure import BenchPlan, Measurement, measure
from slotmux.server.commands.options import JsonOpt, ModelArg, option, parse_counts
from slotmux.server.commands.weights import bytes_per_forward
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.locate import locate
from slotmux.server.settings import Settings


@takes_settings("ubatch_size", "threads", "isa", "cache_type_k", "cache_type_v")
def bench(
    settings: Settings,
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
    parallel: Annotated[
        str, option("--parallel", help="Sequences computed together, such as 1,8.")
    ] = "1",
    repeats: Annotated[int, option("--repeats", "-r", min=1, help="Times each test is run.")] = 3,
    as_json: JsonOpt = False,
) -> None:
    """Measure prompt (pp) and generation (tg) speed, in tokens/s of all sequences together.

    GB/s are the bytes of weights in the file, times forwards a second; the percentage says how
    much of the memory bandwidth, measured first, that is. With --json one object a line:
    test, n_threads, n_parallel, depth, tokens_per_second (median), gb_per_second.
    """
    depths, parallels = parse_counts(depth, "--depth", 0), parse_counts(parallel, "--parallel", 1)
    tests = BenchPlan(n_prompt, n_gen, sorted(set(depths)), sorted(set(parallels)), repeats)
    if not (n_prompt or n_gen):
        raise CommandError("--n-prompt 0 and --n-gen 0 leave nothing to measure")
    from slotmux.server.loading.load import load
    from slotmux.server.loading.plan import Sequences, make_plan

    file = open_gguf(locate(model, settings))
    plan = make_plan(settings, file, Sequences(tests.n_slots, tests.n_ctx))
    n_threads = plan.model.n_threads
    loaded = load(plan)
    try:
        if as_json:
            for result in measure(loaded, tests):
                print(json.dumps(_as_json(result, n_threads, _bytes_of(file, result))), flush=True)
        else:
            bandwidth = measure_bandwidth(n_threads)
            title = (
                f"{plan.path.name}: {n_threads} threads, memory reads {bandwidth / 1e9:.1f} GB/s"
            )
            _print_table(title, measure(loaded, tests), file, bandwidth)
    finally:
        loaded.close()


def _bytes_of(file: GGUFFile, result: Measurement) -> int:
    """Bytes of weights that a forward of this test reads: a prompt's chunk reads every expert."""
    n_tokens = result.n_parallel if result.test.startswith("tg") else 1 << 16
    return bytes_per_forward(file, n_tokens)


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
    title: str, results: Iterator[Measurement], file: GGUFFile, bandwidth: float
) -> None:
    """A line as soon as its test is done: tests at depth take minutes on large models."""
    print(title)
    print(
        f"{'test':<8}{'parallel':>10}{'depth':>8}{'tokens/s':>12}{'GB/s':>9}{'% of bandwidth':>17}"
    )
    for result in results:
        rate = result.forwards_per_second * _bytes_of(file, result)
        print(
            f"{result.test:<8}{result.n_parallel:>10}{result.depth:>8}"
            f"{result.tokens_per_second:>12.1f}{rate / 1e9:>9.2f}{100 * rate / bandwidth:>17.0f}",
            flush=True,
        )
