"""What speculation costs on a model: verified steps, drafting passes, and rejecting.

    python -m tests.bench.steps.verify_times MODEL.gguf --max-drafts 7 --slots 8

Steps of one sequence and of all slots, with 0 drafts and more, after which none or all stay: those
that stay are applied to the recurrent state by the next step, which is all that a rejection costs.
Drafting passes of the model's own block, over the first tokens of the vocabulary and over all.
Milliseconds are medians of interleaved runs, and the ratio is to a step without drafts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotmux.runtime.driver import Driver
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import Model, ModelConfig, load_model
from slotmux.runtime.models import has_mtp

Action = Callable[[], None]


def interleaved(actions: dict[str, Action], n_rounds: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turns; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for i in range(n_rounds + 1):
        for name, action in actions.items():
            begin = time.perf_counter()
            action()
            if i:
                times[name].append(time.perf_counter() - begin)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def steps(driver: Driver, n_seqs: int, max_drafts: int) -> dict[str, Action]:
    """Verified steps; each begins where the one before ended."""

    def step(n: int, n_kept: int) -> None:
        runs = [(slot, [1] * (1 + n)) for slot in range(n_seqs)]
        driver.step(runs, drafts=[(n, n_kept)] * n_seqs)

    def after_kept(n: int) -> None:
        """A step without drafts that has ``n`` accepted ones to apply."""
        for slot in range(n_seqs):
            seq = driver.memory.sequences[slot]
            seq.pools.rows.pending[seq.row] = n
            seq._show_row(is_fresh=False)
        step(0, 0)

    actions: dict[str, Action] = {
        f"{n_seqs} x {1 + n}": partial(step, n, 0) for n in range(max_drafts + 1)
    }
    if driver.memory.n_rows:
        actions[f"{n_seqs} x 1, {max_drafts} accepted before"] = partial(after_kept, max_drafts)
    return actions


def passes(model: Model, driver: Driver, n_seqs: int) -> dict[str, Action]:
    """Drafting passes of one token and of a chain."""
    drafter = model.drafter
    if drafter is None:
        return {}

    def draft(n: int, is_short: bool) -> None:
        driver.guess([(slot, n, 1) for slot in range(n_seqs)], is_short=is_short)

    return {
        f"{n_seqs} x draft of {n}{', first tokens' if is_short else ''}": partial(
            draft, n, is_short
        )
        for n in (1, drafter.max_drafts)
        for is_short in sorted({drafter.has_short, False})
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--max-drafts", type=int, default=3)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--kernel-cache", type=Path, default=Path.home() / ".cache/slotmux/kernels")
    args = parser.parse_args()
    config = ModelConfig(
        n_threads=args.threads,
        n_ctx=args.slots * 4096,
        n_slots=args.slots,
        max_drafts=args.max_drafts,
        use_mtp=has_mtp(open_gguf(args.model)),
        kernel_cache=args.kernel_cache,
    )
    model = load_model(args.model, config)
    driver = Driver(model)
    for n_seqs in sorted({1, args.slots}):
        for slot in range(n_seqs):
            driver.open(slot)
            driver.step([(slot, [1] * 16)], outputs="none")
        actions = {**steps(driver, n_seqs, args.max_drafts), **passes(model, driver, n_seqs)}
        times = interleaved(actions, args.rounds)
        plain = times[f"{n_seqs} x 1"]
        for name, value in times.items():
            print(f"{name:<32}{value:>10.3f} ms{value / plain:>8.2f}", flush=True)
        for slot in range(n_seqs):
            driver.close(slot)
    model.close()


if __name__ == "__main__":
    main()
