"""What Python does around a forward when every slot generates a token, without a model.

    python -m tests.bench.steps.python_times [--slots 1,8,64,256] [--rows]

The engine's own step (admit, plan, accept) over a model that computes nothing: *between* is what
the next forward waits for, *beside* what is done while it computes (text and outputs).
``--rows``: of a hybrid model, with rows of recurrent state beside cells.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import Output, Request, SamplingParams
from slotmux.runtime.ubatch import BLOCK_CELLS
from tests.bench.report import rows
from tests.runtime.engine.fake_model import EOG, FakeDetokenizer, FakeModel

N_CTX = 2048
N_PROMPT = 10
N_WARM = 20


class Idle(FakeModel):  # type: ignore[misc]
    """Draws the same token for everybody, at once; notes how long a step was not its own."""

    def __init__(self, n_slots: int, *, has_rows: bool) -> None:
        super().__init__(
            n_slots=n_slots,
            n_ctx=N_CTX,
            n_blocks=n_slots * N_CTX // BLOCK_CELLS,
            n_rows=n_slots if has_rows else 0,
            n_ubatch=max(512, n_slots),
            n_outputs=n_slots,
        )
        self.begin = self.end = self.beside_s = 0.0

    def forward(self, meanwhile: Callable[[], Any]) -> None:
        self.begin = time.perf_counter()
        meanwhile()
        self.beside_s = time.perf_counter() - self.begin
        self.ubatch.sampled[: self.ubatch.n_samples] = 5
        self.end = time.perf_counter()


def measure(n_slots: int, n_steps: int, *, has_rows: bool = False) -> tuple[float, float]:
    """Medians of the seconds between forwards and beside one."""
    model = Idle(n_slots, has_rows=has_rows)
    config = EngineConfig(n_slots=n_slots, n_ctx=N_CTX)
    core = Core(model, config, frozenset({EOG}), FakeDetokenizer)
    for i in range(n_slots):
        prompt = [1 + i % (EOG - 1)] * N_PROMPT
        request = Request(prompt, SamplingParams(temperature=0.0), _ignore, id=i)
        core.add(request, np.array(prompt, np.int32), time.monotonic())
    between, beside = [], []
    for step in range(N_WARM + n_steps):
        begin = time.perf_counter()
        core.step(time.monotonic())
        if step >= N_WARM:
            between.append(time.perf_counter() - model.end + model.begin - begin)
            beside.append(model.beside_s)
    assert all(slot.choice is not None for slot in core.slots)
    return statistics.median(between), statistics.median(beside)


def _ignore(request: Request, outputs: list[Output]) -> None:
    pass


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steps.python_times")
    parser.add_argument("--slots", default="1,8,64,256")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rows", action="store_true")
    options = parser.parse_args()
    if not 0 < options.steps <= N_CTX - N_PROMPT - N_WARM:
        parser.error(f"--steps: 1 to {N_CTX - N_PROMPT - N_WARM}")
    lines: list[tuple[str, ...]] = [("slots", "between, ms", "beside, ms")]
    for n in map(int, options.slots.split(",")):
        found = measure(n, options.steps, has_rows=options.rows)
        lines.append((str(n), *(f"{1e3 * seconds:.3f}" for seconds in found)))
    print(rows(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
