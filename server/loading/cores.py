"""How many threads are worth starting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")


def n_usable_cores(cpus: Path = CPUS, allowed: Iterable[int] = ()) -> int:
    """Physical cores among the ``allowed`` CPUs, by default those that this process may run on: two
    threads of one core share its vector units and gain nothing. Where the system does not tell,
    every CPU is a core."""
    cores = set()
    for cpu in allowed or os.sched_getaffinity(0):
        siblings = cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.exists() else str(cpu))
    return max(len(cores), 1)
