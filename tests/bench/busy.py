"""Generation on a machine that others use as well: what is left of the speed, and how steady it is.

    python -m tests.bench.busy MODEL [--peer DIR] [--threads N] [--steps 256] [--rounds 3]

Runs with 0, 1 and 2 busy processes on the same cores, and with twice as many threads as cores;
slotmux and llama.cpp in turn. On a machine with more cores than --threads, everything is kept on
the first of them. The steps of llama.cpp are llama-bench's runs of one token.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slotmux.server.loading.cores import n_usable_cores
from tests.bench.programs import ProgramError, Slotmux, json_lines, run
from tests.bench.quiet import Quiet
from tests.bench.report import rows

SPIN = "while True: pass"


@dataclass(frozen=True, slots=True)
class Condition:
    """``n_busy`` processes beside it; ``n_threads`` of its own."""

    name: str
    n_busy: int
    n_threads: int


@dataclass(slots=True)
class Steps:
    """Seconds of every step under a condition, of all rounds."""

    seconds: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return len(self.seconds) / sum(self.seconds)

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent)) * 1e3


def conditions(n_threads: int) -> list[Condition]:
    return [
        Condition("alone", 0, n_threads),
        Condition("1 busy process", 1, n_threads),
        Condition("2 busy processes", 2, n_threads),
        Condition("twice the threads", 0, 2 * n_threads),
    ]


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """That many processes spin, on our CPUs and at our priority, until the block is left."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(n):
            running.append(subprocess.Popen([sys.executable, "-c", SPIN]))
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def slotmux_steps(model: Path, n_steps: int, n_threads: int) -> list[float]:
    words = ("--steps", n_steps, "--threads", n_threads)
    module = [sys.executable, "-m", "tests.bench.steps.step_times", str(model)]
    text = run([*module, *map(str, words)])
    return [float(s) for line in json_lines(text) for s in line["seconds"]]


def llama_steps(folder: Path, model: Path, n_steps: int, n_threads: int) -> list[float]:
    words = ("-p", 0, "-n", 1, "-r", n_steps, "-t", n_threads, "-o", "jsonl")
    text = run([str(folder / "llama-bench"), "-m", str(model), *map(str, words)])
    return [ns / 1e9 for line in json_lines(text) for ns in line["samples_ns"]]


def keep_on_first_cores(n_threads: int) -> None:
    """Ours and our children's CPUs: as many as threads, so that busy processes do share them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])


def table(measured: dict[str, dict[str, Steps]]) -> str:
    """``measured``: condition -> program -> steps; the first condition is the one compared with."""
    head = ("condition", "program", "tok/s", "% of alone", "p50 ms", "p99 ms", "p99 / p50")
    lines = [head]
    alone = next(iter(measured.values()))
    for condition, programs in measured.items():
        for program, steps in programs.items():
            p50, p99 = steps.percentile_ms(50), steps.percentile_ms(99)
            lines.append(
                (
                    condition,
                    program,
                    f"{steps.speed:.1f}",
                    f"{100 * steps.speed / alone[program].speed:.0f}",
                    f"{p50:.2f}",
                    f"{p99:.2f}",
                    f"{p99 / p50:.1f}",
                )
            )
    return rows(lines)


def measure(options: argparse.Namespace, n_threads: int) -> dict[str, dict[str, Steps]]:
    names = [Slotmux.name, *(["llama.cpp"] if options.peer else [])]
    all_conditions = conditions(n_threads)
    measured = {c.name: {name: Steps() for name in names} for c in all_conditions}
    for _ in range(options.rounds):
        for condition in all_conditions:
            for name, steps in measured[condition.name].items():
                size = (options.model, options.steps, condition.n_threads)
                with busy_processes(condition.n_busy):
                    if name == Slotmux.name:
                        steps.seconds += slotmux_steps(*size)
                    else:
                        steps.seconds += llama_steps(options.peer, *size)
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.busy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, help="folder of llama-bench")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    n_threads = options.threads or n_usable_cores()
    keep_on_first_cores(n_threads)
    if complaint := Quiet(n_threads).complaint():
        print(f"busy: {complaint}", file=sys.stderr)
    try:
        print(table(measure(options, n_threads)))
    except ProgramError as error:
        print(f"busy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
