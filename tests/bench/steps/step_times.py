"""Seconds of each generation step of one sequence, as JSON: what busy.py asks of slotmux.

python -m tests.bench.steps.step_times MODEL --steps 256 --threads 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from slotmux.runtime.gguf import open_gguf
from slotmux.server.commands.measure import BenchPlan, Lanes
from slotmux.server.loading.load import load
from slotmux.server.loading.plan import Sequences, make_plan
from slotmux.server.settings import load_settings

N_WARM = 8
SPAN = 32  # steps of a sequence before the next begins, so that depth stays out of it


def measure(model: Path, n_steps: int, n_threads: int) -> list[float]:
    plan = BenchPlan(n_prompt=0, n_gen=SPAN, depths=[0], parallels=[1], n_repeats=1)
    settings = load_settings(ubatch_size=16, threads=n_threads, spec_type="none")
    loaded = load(make_plan(settings, open_gguf(model), Sequences(plan.n_slots, plan.n_ctx)))
    try:
        lanes = Lanes(loaded, plan)
        times: list[float] = []
        while len(times) < n_steps + N_WARM:
            lanes.begin(1)
            times += [_step(lanes, i) for i in range(SPAN)]
            lanes.end(1)
        return times[N_WARM : N_WARM + n_steps]
    finally:
        loaded.close()


def _step(lanes: Lanes, i: int) -> float:
    start = time.perf_counter()
    lanes.driver.feed([(0, [i * 7919 % lanes.model.n_vocab])], outputs="last")
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steps.step_times")
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps({"seconds": measure(options.model, options.steps, options.threads)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
