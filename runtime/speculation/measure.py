"""Measuring what verifying and drafting cost on this machine, before the first request."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from slotmux.runtime.driver import Driver
from slotmux.runtime.interfaces import ModelLike
from slotmux.runtime.speculation.costs import Costs

N_REPEATS = 3
MAX_S = 2.0  # for all of it; a slow model is measured once
TOKEN = 0


def measure_costs(model: ModelLike, max_drafts: int) -> Costs:
    """Steps of one sequence and of all slots with up to ``max_drafts`` drafts each, and passes."""
    deadline = time.perf_counter() + MAX_S
    driver, drafter = Driver(model), model.drafter
    n_ubatch = model.ubatch.n_ubatch
    steps: dict[int, dict[int, float]] = {}
    passes: dict[tuple[int, bool], float] = {}
    for n_seqs in sorted({1, min(driver.n_slots, n_ubatch)}):
        for slot in range(n_seqs):
            driver.open(slot)
        driver.step([(slot, [TOKEN]) for slot in range(n_seqs)], outputs="none")
        steps[n_seqs] = {
            n_seqs + n: _least(partial(_verify, driver, n_seqs, n), deadline)
            for n in _counts(n_seqs, max_drafts)
            if n_seqs + n <= n_ubatch
        }
        if drafter is not None:
            for is_short in {drafter.has_short, False}:
                wanted = [(slot, 1, TOKEN) for slot in range(n_seqs)]
                action = partial(driver.guess, wanted, is_short=is_short)
                passes[n_seqs, is_short] = _least(action, deadline)
        for slot in range(n_seqs):
            driver.close(slot)
    return Costs(steps, passes)


def _counts(n_seqs: int, max_drafts: int) -> list[int]:
    """Drafts of all sequences together: a few, then as many for each. Products take rows by
    fours and eights, so the first ones beyond such a number cost more than the next."""
    several = [n_seqs * n for n in range(max_drafts + 1)]
    return sorted({*several, *(n for n in (1, 2, 4) if n < several[-1])})


def _least(action: Callable[[], object], deadline: float) -> float:
    """Seconds of the fastest of some tries: what else the machine does only adds to it."""
    best = float("inf")
    for _ in range(1 + N_REPEATS):  # the first one also warms caches
        begin = time.perf_counter()
        action()
        end = time.perf_counter()
        best = min(best, end - begin)
        if end > deadline:
            break
    return best


def _verify(driver: Driver, n_seqs: int, n_drafts: int) -> None:
    """One step with ``n_drafts`` spread evenly."""
    counts = [(n_drafts + i) // n_seqs for i in range(n_seqs)]
    runs = [(slot, [TOKEN] * (1 + n)) for slot, n in enumerate(counts)]
    driver.step(runs, drafts=[(n, 0) for n in counts])
