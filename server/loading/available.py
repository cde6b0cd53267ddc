"""How much memory a process may take now: what the machine and its control groups have left.

What there is at all says little beside other programs: whoever takes more than is available has
pages of others thrown out, or is ended by the system in the middle of an answer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from slotmux.server.loading.budget import BASE_BYTES
from slotmux.server.loading.cgroups import cgroup_limit, cgroup_room
from slotmux.server.loading.words import mib
from slotmux.server.settings import told_as


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes that a plan may take. ``n_machine``: all that the machine or its control groups would
    let it have, were nobody else there; 0: the operator has decided."""

    n_bytes: int
    n_machine: int = 0

    def __str__(self) -> str:
        name = told_as("mem_limit")
        if not self.n_machine:
            return f"{mib(self.n_bytes)} ({name})"
        return (
            f"{mib(self.n_bytes)}, what is available of {mib(self.n_machine)} ({name} sets another)"
        )


def memory_limit(told: int = 0, root: Path = Path("/")) -> Limit:
    """``told`` bytes, or what is available. ``root``: where /proc and /sys are."""
    if told:
        return Limit(told)
    in_all = min(machine_bytes(), cgroup_limit(root) or machine_bytes())
    left = min(_kib(root / "proc/meminfo", "MemAvailable") or in_all, in_all)
    room = cgroup_room(root)
    left = left if room is None else min(left, room)
    # Plans count what this process has already.
    own = min(_kib(root / "proc/self/status", "RssAnon"), BASE_BYTES)
    return Limit(min(left + own, in_all), in_all)


def machine_bytes() -> int:
    """All memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _kib(path: Path, name: str) -> int:
    """Bytes of a line "name: n kB"; 0 where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    numbers = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(numbers[0]) * 1024 if numbers else 0
