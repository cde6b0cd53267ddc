"""The thread team: every thread runs the whole program, claiming work in small chunks.

The compiled part, and why no thread waits for one that was preempted, is in kernels/claims.py.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import numpy as np

from slotmux.kernels.claims import (
    E_KERNEL,
    E_OP,
    E_SYNC,
    E_WAIT_FROM,
    LINE,
    N_ENTRY_WORDS,
    P_ENTRIES,
    P_FINAL_WAIT,
    P_N_OPS,
    P_STEP,
    T_EPOCH,
    T_GROUP,
    T_GROUP_SIZE,
    T_N_THREADS,
    T_OP_INDEX,
    T_SCRATCH,
    T_TEAM,
    T_TID,
    T_TOTALS,
    begin,
    follow,
    join,
    lead,
    stop,
)
from slotmux.kernels.compiler import KernelCache, as_callable


def aligned_zeros(n_bytes: int, alignment: int = LINE) -> np.ndarray:
    """Zeroed bytes whose address is a multiple of ``alignment``."""
    raw = np.zeros(n_bytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + n_bytes]


# What every team needs compiled, by name.
TEAM_KERNELS = {
    "team.lead": lambda: lead,
    "team.begin": lambda: begin,
    "team.join": lambda: join,
    "team.stop": lambda: stop,
    "team.follow": lambda: follow,
}


class Team:
    """Threads that run programs together. ``run`` is called by one thread at a time: number 0.

    ``scratch_bytes`` is each thread's own working memory, at the address in its struct. ``cpus``:
    thread i stays on the CPUs cpus[i]; () leaves all alone. ``groups``: how many threads, in their
    order, share a NUMA node; () is one group of all.

    ``ties_caller``: thread 0 is tied, too, when it first runs a program; else it is left alone, as
    it may have more to do than to wait for a forward.
    """

    def __init__(
        self,
        kernels: KernelCache,
        n_threads: int,
        scratch_bytes: int = 1 << 20,
        cpus: Sequence[Set[int]] = (),
        groups: Sequence[int] = (),
        *,
        ties_caller: bool = False,
    ) -> None:
        if n_threads < 1:
            raise ValueError(f"n_threads: {n_threads} is less than 1")
        groups = groups or (n_threads,)
        if sum(groups) != n_threads or min(groups) < 1:
            raise ValueError(f"groups: {list(groups)} are not {n_threads} threads")
        if sys.float_info.min / 2 == 0.0:  # threads inherit it
            raise RuntimeError(
                "this thread flushes denormal numbers to zero (a library built with -ffast-math?): "
                "kernels would not give the same bits as elsewhere"
            )
        self.kernels = kernels
        self.n_threads, self.n_groups = n_threads, len(groups)
        self._own_cpus = cpus[0] if cpus and ties_caller else None
        self._tied_thread = 0  # the calling thread, once it is on its CPUs
        self._free_cpus: Set[int] = frozenset()  # where it was before
        self._team = aligned_zeros(4 * LINE)
        self._programs: set[Program] = set()
        self._totals = np.zeros((n_threads, 1 << 16), np.int64)
        self._scratch = aligned_zeros(n_threads * scratch_bytes, 4096)
        self._structs = aligned_zeros(n_threads * 4 * LINE).view(np.int64).reshape(n_threads, -1)
        for tid, struct in enumerate(self._structs):
            struct[T_TID], struct[T_N_THREADS] = tid, n_threads
            struct[T_TOTALS] = self._totals[tid].ctypes.data
            struct[T_TEAM] = self._team.ctypes.data
            struct[T_SCRATCH] = self._scratch.ctypes.data + tid * scratch_bytes
        for group, size in enumerate(groups):
            first = sum(groups[:group])
            words = group, len(groups), first, size
            self._structs[first : first + size, T_GROUP : T_GROUP_SIZE + 1] = words
        self._lead, self._begin, self._join, self._stop, run_follower = (
            as_callable(kernels.address(f"team.{name}", TEAM_KERNELS[f"team.{name}"]), 3)
            for name in ("lead", "begin", "join", "stop", "follow")
        )

        def start(tid: int, team: int, struct: int) -> None:
            if cpus:
                os.sched_setaffinity(0, cpus[tid])
            run_follower(team, struct, 0)

        self._threads = [
            threading.Thread(
                target=start,
                args=(tid, self._team.ctypes.data, int(struct.ctypes.data)),
                name=f"slotmux-kernel-{tid}",
                daemon=True,
            )
            for tid, struct in enumerate(self._structs)
            if tid > 0
        ]
        self._lead_args = (self._team.ctypes.data, int(self._structs[0].ctypes.data))
        for thread in self._threads:
            thread.start()

    def run(self, program: Program, meanwhile: Callable[[], None] | None = None) -> None:
        """Run a program to its end. Releases the GIL.

        ``meanwhile`` is called by this thread when the others have begun, before it helps them: a
        thread that comes late holds nobody up. What it raises comes out at the end.
        """
        self._programs.add(program)  # a thread that lags behind still walks through it
        if self._own_cpus is not None and self._tied_thread != threading.get_ident():
            self._free_cpus = os.sched_getaffinity(0)
            os.sched_setaffinity(0, self._own_cpus)
            self._tied_thread = threading.get_ident()
        team, struct = self._lead_args
        if meanwhile is None:
            self._lead(team, program.address, struct)
            return
        self._begin(team, program.address, struct)
        try:
            meanwhile()
        finally:
            self._join(team, program.address, struct)

    def untie_caller(self) -> None:
        """Let the calling thread go where it was allowed to before it ran programs."""
        if self._tied_thread == threading.get_ident():
            os.sched_setaffinity(0, self._free_cpus)
            self._tied_thread = 0

    @property
    def progress(self) -> int:
        """Differs after every op that the leading thread has come to. Any thread may ask."""
        struct = self._structs[0]
        return (int(struct[T_EPOCH]) << 16) + int(struct[T_OP_INDEX])

    def close(self) -> None:
        """End the other threads; programs may be freed afterwards."""
        if self._threads:
            self._stop(self._team.ctypes.data, 0, 0)
            for thread in self._threads:
                thread.join()
            self._threads = []


class Program:
    """Ops in order, each a compiled kernel and its operands, with the waits between them.

    ``ops`` are (kernel address, operands as int64 array, wait_from): before the op, every op from
    ``wait_from`` on must be finished (-1: no wait). Keeps its operand arrays alive.
    """

    def __init__(
        self, team: Team, step: np.ndarray, ops: list[tuple[int, np.ndarray, int]]
    ) -> None:
        n_sync = LINE * (1 + team.n_groups + team.n_threads)
        self._sync = aligned_zeros(max(len(ops), 1) * n_sync)
        self._words = np.zeros(P_ENTRIES + len(ops) * N_ENTRY_WORDS, np.int64)
        self._keep = [operands for _, operands, _ in ops]
        self._step = step
        last_wait = 0
        for i, (kernel, operands, wait_from) in enumerate(ops):
            at = P_ENTRIES + i * N_ENTRY_WORDS
            entry = self._words[at : at + N_ENTRY_WORDS]
            entry[E_KERNEL], entry[E_OP] = kernel, operands.ctypes.data
            entry[E_SYNC], entry[E_WAIT_FROM] = self._sync.ctypes.data + i * n_sync, wait_from
            if wait_from >= 0:
                last_wait = i
        self._words[P_N_OPS], self._words[P_STEP] = len(ops), step.ctypes.data
        self._words[P_FINAL_WAIT] = last_wait
        self.address = int(self._words.ctypes.data)
        self.n_ops = len(ops)


def make_team(cpu_isa: str, n_threads: int, cache_directory: Path | None = None) -> Team:
    """A team for tests and tools: kernels for ``cpu_isa``, cached in ``cache_directory``."""
    from slotmux.kernels.cpu import detect_cpu

    return Team(KernelCache(detect_cpu(cpu_isa), cache_directory), n_threads)
