"""Is the machine quiet? What others take of its CPUs, and whether a fixed piece of work is slow."""

from __future__ import annotations

import hashlib
import os
import resource
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MOST_OTHERS = 0.04  # of the CPU time of our CPUs
MOST_SLOWDOWN = 0.10  # of the calibration, against the fastest one so far
CALIBRATION_BYTES = 8 << 20
N_CALIBRATIONS = 5
IDLE, IOWAIT = 3, 4  # columns of /proc/stat


@dataclass(frozen=True, slots=True)
class Clock:
    """CPU seconds since the start of the system, and of this process and its ended children."""

    wall: float
    busy: float
    own: float


def read_clock() -> Clock:
    own = sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    text = Path("/proc/stat").read_text()
    return Clock(time.monotonic(), busy_seconds(text, os.sched_getaffinity(0)), own)


def busy_seconds(stat: str, cpus: set[int]) -> float:
    """Of /proc/stat: time in which these CPUs were not idle, what the hypervisor took included."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for line in stat.splitlines():
        name, *columns = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cpus:
            ticks = [int(c) for c in columns[:8]]  # guests' time is counted in user time already
            total += sum(ticks) - ticks[IDLE] - ticks[IOWAIT]
    return total / tick


def others_share(before: Clock, after: Clock, n_cpus: int) -> float:
    """Share of the CPUs' time that went to processes that are not ours."""
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others / ((after.wall - before.wall) * n_cpus))


class Quiet:
    """Judges the machine around measurements, and remembers its best speed."""

    def __init__(self, n_threads: int) -> None:
        self.n_cpus = len(os.sched_getaffinity(0))
        self._data = bytes(CALIBRATION_BYTES)
        self._pool = ThreadPoolExecutor(n_threads)
        self._n_threads = n_threads
        self.best = float("inf")

    def slowdown(self) -> float:
        """How much slower fixed work on every thread is now than at its best so far; 0.1 s."""
        seconds = statistics.median(self._calibrate() for _ in range(N_CALIBRATIONS))
        self.best = min(self.best, seconds)
        return seconds / self.best - 1

    def idle_others(self, seconds: float = 2.0) -> float:
        """What others take while we do nothing."""
        before = read_clock()
        time.sleep(seconds)
        return others_share(before, read_clock(), self.n_cpus)

    def complaint(self) -> str | None:
        """Why measuring now is useless, or None."""
        others = self.idle_others()
        load = os.getloadavg()[0]
        if others > MOST_OTHERS:
            return (
                f"the machine is not quiet: other processes take {100 * others:.0f}% of "
                f"{self.n_cpus} CPUs (load average {load:.1f})"
            )
        return None

    def _calibrate(self) -> float:
        start = time.perf_counter()
        jobs = [self._pool.submit(hashlib.sha256, self._data) for _ in range(self._n_threads)]
        for job in jobs:
            job.result()
        return time.perf_counter() - start


class Watch:
    """``with Watch(quiet) as watch: measure()``, then ``watch.is_noisy``."""

    def __init__(self, quiet: Quiet) -> None:
        self._quiet = quiet
        self.others = self.slowdown = 0.0

    def __enter__(self) -> Watch:
        self.slowdown = self._quiet.slowdown()
        self._before = read_clock()
        return self

    def __exit__(self, *exc: object) -> None:
        self.others = others_share(self._before, read_clock(), self._quiet.n_cpus)
        self.slowdown = max(self.slowdown, self._quiet.slowdown())

    @property
    def is_noisy(self) -> bool:
        return self.others > MOST_OTHERS or self.slowdown > MOST_SLOWDOWN
