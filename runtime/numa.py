"""Memory of several NUMA nodes: which threads run on which, and what lies where.

Threads of a node are a group of the team (kernels/claims.py): each owns a fixed share of every op's
chunks, so each node reads a fixed part of every matrix. That part is put on the node. Cells and
states belong to whichever thread comes by: their pages are spread over all nodes.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slotmux.runtime.errors import ConfigError

log = logging.getLogger(__name__)
NODES = Path("/sys/devices/system/node")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Policies and flags of <linux/mempolicy.h>: a preferred node that is full gives way to another.
PREFERRED, INTERLEAVE = 1, 3
MOVE = 1 << 1
_MBIND = {"x86_64": 237, "aarch64": 235}
_MASK_BITS = 1024


@dataclass(frozen=True, slots=True)
class Node:
    """A NUMA node: its number, and those of its CPUs that this process may use."""

    id: int
    cpus: frozenset[int]


def parse_list(text: str) -> list[int]:
    """The numbers of a kernel's list such as "0-3,8"."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def numa_nodes(nodes: Path = NODES) -> list[Node]:
    """The nodes that have CPUs for this process, in order; where the system does not tell, one."""
    allowed = frozenset(os.sched_getaffinity(0))
    online = nodes / "online"
    if not online.exists():
        return [Node(0, allowed)]
    found = []
    for number in parse_list(online.read_text()):
        cpus = allowed & frozenset(parse_list((nodes / f"node{number}" / "cpulist").read_text()))
        if cpus:
            found.append(Node(number, cpus))
    return found or [Node(0, allowed)]


def deal_threads(nodes: Sequence[Node], n_threads: int) -> list[int]:
    """How many threads each node runs, by its CPUs; some may run none."""
    n_cpus = [len(node.cpus) for node in nodes]
    ends = [round(n_threads * sum(n_cpus[: i + 1]) / sum(n_cpus)) for i in range(len(nodes))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True, slots=True)
class Placement:
    """Threads of a team over nodes: nodes[i] runs the next groups[i] of them, at least one."""

    nodes: tuple[Node, ...]
    groups: tuple[int, ...]

    @classmethod
    def over(cls, nodes: Sequence[Node], n_threads: int) -> Placement:
        """Every node's part of the threads; a node that would have none is left out."""
        dealt = [(n, k) for n, k in zip(nodes, deal_threads(nodes, n_threads), strict=True) if k]
        return cls(tuple(node for node, _ in dealt), tuple(n for _, n in dealt))

    def cpus(self, *, pinned: bool) -> list[frozenset[int]]:
        """Where each thread stays: on its node, or ``pinned`` to one of the node's CPUs."""
        threads = []
        for node, n in zip(self.nodes, self.groups, strict=True):
            order = sorted(node.cpus)
            threads += [
                frozenset({order[i % len(order)]}) if pinned else node.cpus for i in range(n)
            ]
        return threads

    def share(self, address: int, n_bytes: int) -> None:
        """Put each group's part of a matrix on its node: as the team's shares of its panels."""
        n_threads, begin = sum(self.groups), 0
        for node, n in zip(self.nodes, self.groups, strict=True):
            start, end = n_bytes * begin // n_threads, n_bytes * (begin + n) // n_threads
            place(address + start, end - start, PREFERRED, [node.id])
            begin += n

    def spread(self, address: int, n_bytes: int) -> None:
        """Spread pages over the nodes."""
        place(address, n_bytes, INTERLEAVE, [node.id for node in self.nodes])


def _mask(nodes: Iterable[int]) -> ctypes.Array[ctypes.c_ulong]:
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask = (ctypes.c_ulong * (_MASK_BITS // bits))()
    for node in nodes:
        mask[node // bits] |= 1 << node % bits
    return mask


def place(address: int, n_bytes: int, policy: int, nodes: Sequence[int]) -> bool:
    """Have the whole pages between two addresses lie on ``nodes``, also those that are there
    already. Returns whether the system did it; where it does not, memory works as before."""
    first, end = -(-address // PAGE) * PAGE, (address + n_bytes) // PAGE * PAGE
    if first >= end:
        return True
    number, libc = _MBIND.get(platform.machine()), ctypes.CDLL(None, use_errno=True)
    if number is not None and libc.syscall(
        ctypes.c_long(number), ctypes.c_void_p(first), ctypes.c_ulong(end - first),
        ctypes.c_int(policy), _mask(nodes), ctypes.c_ulong(_MASK_BITS), ctypes.c_uint(MOVE),
    ) == 0:  # fmt: skip
        return True
    reason = os.strerror(ctypes.get_errno() if number is not None else errno.ENOSYS)
    log.warning("memory cannot be placed on NUMA nodes: %s", reason)
    return False


def chosen_nodes(numa: str, nodes: Path = NODES) -> list[Node]:
    """The nodes that ``--numa`` names: none ("" and "numactl": as the process was started), all
    ("distribute"), the one that this thread runs on ("isolate"), a certain one ("isolate:1").

    Raises ConfigError for a node that this process may not use, and for other words.
    """
    word, _, number = numa.partition(":")
    if word in ("", "numactl") and not number:
        return []
    found = numa_nodes(nodes)
    if numa == "distribute":
        return found
    if numa == "isolate":
        cpu = ctypes.CDLL(None).sched_getcpu()
        return [node for node in found if cpu in node.cpus] or found[:1]
    if word == "isolate" and number.isdecimal():
        chosen = [node for node in found if node.id == int(number)]
        if chosen:
            return chosen
        known = ", ".join(str(node.id) for node in found)
        raise ConfigError("numa", f"there is no node {number} to run on; there are: {known}")
    raise ConfigError("numa", "must be distribute, isolate, isolate:NODE or numactl")
