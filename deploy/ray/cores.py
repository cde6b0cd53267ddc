"""Cores of its own for each replica of a machine: a lock on a file for each group, which the system
gives back however the process ends."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import IO

from slotmux.runtime.numa import NODES, parse_list
from slotmux.server.loading.cores import CPUS, physical_cores
from slotmux.server.process.logs import LOGGER

_WAIT_S = 10.0  # for a replica that is being replaced
_log = logging.getLogger(LOGGER)


class OwnCores:
    """Ties this process to ``n`` physical cores that no other holder has. Where all are taken it
    stays untied, and says so."""

    def __init__(self, folder: Path, n: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.cpus: frozenset[int] = frozenset()
        self._lock: IO[str] | None = None
        deadline = time.monotonic() + _WAIT_S
        groups = core_groups(n)
        while groups and self._lock is None:
            self._take(folder, groups)
            if time.monotonic() > deadline:
                break
            time.sleep(0.0 if self._lock else 0.1)
        if self._lock is None:
            _log.warning("no cores of its own are left for this replica: it shares them")
            return
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), self.cpus)

    def _take(self, folder: Path, groups: list[frozenset[int]]) -> None:
        for cpus in groups:
            file = open(folder / f"{min(cpus)}-{len(cpus)}.lock", "w")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            self._lock, self.cpus = file, cpus
            return

    def close(self) -> None:
        """Lets others have them."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def core_groups(n: int, cpus: Path = CPUS, nodes: Path = NODES) -> list[frozenset[int]]:
    """The CPUs that this process may use, in groups of ``n`` physical cores with all their threads;
    none crosses a NUMA node, what is left of a node is in none."""
    groups = []
    for cores in _cores_by_node(cpus, nodes):
        for begin in range(0, len(cores) - n + 1, n):
            groups.append(frozenset().union(*cores[begin : begin + n]))
    return groups


def _cores_by_node(cpus: Path, nodes: Path) -> list[list[frozenset[int]]]:
    node_of = {
        cpu: int(path.name.removeprefix("node"))
        for path in nodes.glob("node[0-9]*")
        for cpu in parse_list((path / "cpulist").read_text())
    }
    by_node: dict[int, list[frozenset[int]]] = {}
    for core in physical_cores(cpus):
        by_node.setdefault(node_of.get(min(core), 0), []).append(core)
    return [cores for _, cores in sorted(by_node.items())]
