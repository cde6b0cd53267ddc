"""How many threads are worth starting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from slotmux.runtime.numa import parse_list

CPUS = Path("/sys/devices/system/cpu")


def physical_cores(cpus: Path = CPUS, allowed: Iterable[int] = ()) -> list[frozenset[int]]:
    """The CPUs of each physical core, in order: of the ``allowed`` ones, by default those that this
    process may run on. Where the system does not tell, every CPU is a core."""
    usable = frozenset(allowed or os.sched_getaffinity(0))
    cores: dict[frozenset[int], None] = {}
    for cpu in sorted(usable):
        told = cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        siblings = parse_list(told.read_text()) if told.exists() else (cpu,)
        cores[usable & frozenset(siblings)] = None
    return list(cores)


def n_usable_cores(cpus: Path = CPUS, allowed: Iterable[int] = ()) -> int:
    """How many physical cores there are among the ``allowed`` CPUs: two threads of one core share
    its vector units and gain nothing."""
    return max(len(physical_cores(cpus, allowed)), 1)
