"""The thread team: every thread runs the whole program, claiming work in small chunks.

An op is done when its chunks are, not when all threads have arrived. A thread that was preempted
outside a chunk, or that woke up late, holds nobody up: others take its share, it finds nothing
left to claim and runs on. Who computed a chunk has no influence on the result.

Words shared by threads carry the run's number (epoch) in their upper bits, so that nothing needs
resetting between runs and a thread left behind in an older run cannot claim from a newer one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit

from kernels.address import (
    atomic_add,
    atomic_swap,
    call_kernel,
    compare_and_swap,
    cpu_pause,
    futex_wait,
    futex_wake,
    load_acquire,
    load_i64,
    store_i64,
)
from kernels.compiler import KernelCache, as_callable

LINE = 64  # bytes; words that different threads write stand on lines of their own
COUNT_BITS = 20  # of a shared word: chunks; the epoch is above
COUNT_MASK = (1 << COUNT_BITS) - 1
MAX_CHUNKS = COUNT_MASK
AGREED = 8  # offset in an op's first line, behind the count of finished chunks: its chunks in all
# Rounds of pause before a waiting thread sleeps: about 20 us, more than a chunk takes.
SPIN_ROUNDS = 600

# A thread's own struct, in int64 words.
T_TID, T_N_THREADS, T_EPOCH, T_HELD, T_N_DONE, T_OP_INDEX, T_SYNC, T_TOTALS, T_TEAM, T_SCRATCH = (
    range(10)
)
# The team's struct, in bytes: the run's number (odd while it is being changed), threads asleep,
# the program to run, and whether to stop.
TEAM_EPOCH, TEAM_SLEEPERS, TEAM_PROGRAM, TEAM_STOP = 0, LINE, 2 * LINE, 3 * LINE
# A program: number of ops, address of the step, then four words an op.
P_N_OPS, P_STEP, P_FINAL_WAIT, P_ENTRIES = range(4)
E_KERNEL, E_OP, E_SYNC, E_WAIT_FROM = range(4)
N_ENTRY_WORDS = 4


@njit
def _publish(thread, sync, epoch, n_done):
    """Add to the op's count of finished chunks and wake who waits for it."""
    while True:
        value = load_acquire(sync)
        count = n_done
        if value >> COUNT_BITS == epoch:
            count += value & COUNT_MASK
        if compare_and_swap(sync, value, (epoch << COUNT_BITS) | count):
            break
    if load_acquire(load_i64(thread + 8 * T_TEAM) + TEAM_SLEEPERS) > 0:
        futex_wake(sync)


@njit
def _agreed(sync, epoch, n_chunks):
    """How many chunks the op has in this run, as the first thread to ask saw it.

    A thread left behind may see the sizes of the next step. The first cannot: a run does not
    end, and its step does not change, before the leading thread has asked at every op.
    """
    while True:
        value = load_acquire(sync + AGREED)
        if value >> COUNT_BITS == epoch:
            return value & COUNT_MASK
        if value >> COUNT_BITS > epoch:
            return np.int64(0)  # this run is over, and all its chunks were finished by others
        if compare_and_swap(sync + AGREED, value, (epoch << COUNT_BITS) | n_chunks):
            return n_chunks


@njit
def claim(thread, n_chunks):
    """The next chunk (0 .. n_chunks - 1) for this thread to compute, or -1 when none is left.

    A thread takes from its own share first, then from the others'. Asking again tells that the
    chunk taken before is finished. Kernels touch an operand only after a claim has succeeded.
    """
    sync = load_i64(thread + 8 * T_SYNC)
    epoch = load_i64(thread + 8 * T_EPOCH)
    tid = load_i64(thread + 8 * T_TID)
    n_threads = load_i64(thread + 8 * T_N_THREADS)
    n_done = load_i64(thread + 8 * T_N_DONE) + load_i64(thread + 8 * T_HELD)
    n_chunks = _agreed(sync, epoch, n_chunks)
    for i in range(n_threads):
        owner = (tid + i) % n_threads
        first = n_chunks * owner // n_threads
        end = n_chunks * (owner + 1) // n_threads
        word = sync + LINE * (1 + owner)
        while first < end:
            value = load_acquire(word)
            n_taken = np.int64(0)
            if value >> COUNT_BITS == epoch:
                n_taken = value & COUNT_MASK
            elif value >> COUNT_BITS > epoch:
                break  # this run is over, and all its chunks were finished by others
            if first + n_taken >= end:
                break
            if compare_and_swap(word, value, (epoch << COUNT_BITS) | (n_taken + 1)):
                store_i64(thread + 8 * T_HELD, 1)
                store_i64(thread + 8 * T_N_DONE, n_done)
                return first + n_taken
    totals = load_i64(thread + 8 * T_TOTALS)
    store_i64(totals + 8 * load_i64(thread + 8 * T_OP_INDEX), n_chunks)
    if n_done > 0:
        _publish(thread, sync, epoch, n_done)
    store_i64(thread + 8 * T_HELD, 0)
    store_i64(thread + 8 * T_N_DONE, 0)
    return np.int64(-1)


@njit
def _wait(thread, sync, total):
    """Return when ``total`` chunks of an op are finished: spin a little, then sleep."""
    epoch = load_i64(thread + 8 * T_EPOCH)
    sleepers = load_i64(thread + 8 * T_TEAM) + TEAM_SLEEPERS
    rounds = 0
    while total > 0:
        value = load_acquire(sync)
        seen = value >> COUNT_BITS
        if seen > epoch or (seen == epoch and value & COUNT_MASK >= total):
            return
        if rounds < SPIN_ROUNDS:
            rounds += 1
            cpu_pause()
            continue
        atomic_add(sleepers, 1)
        if load_acquire(sync) == value:
            futex_wait(sync, value)
        atomic_add(sleepers, -1)


@njit
def _wait_for_ops(program, thread, first, end):
    totals = load_i64(thread + 8 * T_TOTALS)
    for j in range(first, end):
        entry = program + 8 * (P_ENTRIES + j * N_ENTRY_WORDS)
        _wait(thread, load_i64(entry + 8 * E_SYNC), load_i64(totals + 8 * j))


@njit
def _run_ops(program, thread, epoch):
    """Run every op of a program in order, waiting where the program says so."""
    store_i64(thread + 8 * T_EPOCH, epoch)
    step = load_i64(program + 8 * P_STEP)
    n_ops = load_i64(program + 8 * P_N_OPS)
    for i in range(n_ops):
        entry = program + 8 * (P_ENTRIES + i * N_ENTRY_WORDS)
        first = load_i64(entry + 8 * E_WAIT_FROM)
        if first >= 0:
            _wait_for_ops(program, thread, first, i)
        store_i64(thread + 8 * T_SYNC, load_i64(entry + 8 * E_SYNC))
        store_i64(thread + 8 * T_OP_INDEX, i)
        call_kernel(load_i64(entry + 8 * E_KERNEL), load_i64(entry + 8 * E_OP), step, thread)


def _lead(team, program, thread):
    """Run a program on the whole team and return when all of it is done (the calling thread)."""
    epoch = load_acquire(team + TEAM_EPOCH)
    atomic_swap(team + TEAM_EPOCH, epoch + 1)
    atomic_swap(team + TEAM_PROGRAM, program)
    epoch += 2
    atomic_swap(team + TEAM_EPOCH, epoch)
    if load_i64(thread + 8 * T_N_THREADS) > 1 and load_acquire(team + TEAM_SLEEPERS) > 0:
        futex_wake(team + TEAM_EPOCH)
    _run_ops(program, thread, epoch)
    n_ops = load_i64(program + 8 * P_N_OPS)
    _wait_for_ops(program, thread, load_i64(program + 8 * P_FINAL_WAIT), n_ops)


def _follow(team, thread, unused):
    """Take part in every run of the team until it is stopped (the other threads)."""
    last = load_acquire(team + TEAM_EPOCH)
    rounds = 0
    while load_acquire(team + TEAM_STOP) == 0:
        epoch = load_acquire(team + TEAM_EPOCH)
        if epoch == last or epoch & 1:
            if rounds < SPIN_ROUNDS:
                rounds += 1
                cpu_pause()
                continue
            atomic_add(team + TEAM_SLEEPERS, 1)
            if load_acquire(team + TEAM_STOP) == 0:
                futex_wait(team + TEAM_EPOCH, epoch)
            atomic_add(team + TEAM_SLEEPERS, -1)
            continue
        program = load_acquire(team + TEAM_PROGRAM)
        if load_acquire(team + TEAM_EPOCH) != epoch:
            continue
        last = epoch
        rounds = 0
        _run_ops(program, thread, epoch)


def _stop(team, unused1, unused2):
    """Let every following thread return."""
    atomic_swap(team + TEAM_STOP, 1)
    epoch = load_acquire(team + TEAM_EPOCH)
    atomic_swap(team + TEAM_EPOCH, epoch + 2)
    futex_wake(team + TEAM_EPOCH)


def aligned_zeros(n_bytes: int, alignment: int = LINE) -> np.ndarray:
    """Zeroed bytes whose address is a multiple of ``alignment``."""
    raw = np.zeros(n_bytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + n_bytes]


# What every team needs compiled, by name.
TEAM_KERNELS = {
    "team.lead": lambda: _lead,
    "team.stop": lambda: _stop,
    "team.follow": lambda: _follow,
}


class Team:
    """Threads that run programs together. ``run`` is called by one thread at a time.

    ``scratch_bytes`` is each thread's own working memory, at the address in its struct. ``cpus``:
    thread i is tied to cpus[i] (the calling thread, 0, is left alone); () ties none.
    """

    def __init__(
        self,
        kernels: KernelCache,
        n_threads: int,
        scratch_bytes: int = 1 << 20,
        cpus: Sequence[int] = (),
    ) -> None:
        if n_threads < 1:
            raise ValueError(f"n_threads: {n_threads} is less than 1")
        self.kernels = kernels
        self.n_threads = n_threads
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
        self._lead = as_callable(kernels.address("team.lead", TEAM_KERNELS["team.lead"]), 3)
        self._stop = as_callable(kernels.address("team.stop", TEAM_KERNELS["team.stop"]), 3)
        follow = as_callable(kernels.address("team.follow", TEAM_KERNELS["team.follow"]), 3)

        def start(tid: int, team: int, struct: int) -> None:
            if cpus:
                os.sched_setaffinity(0, {cpus[tid % len(cpus)]})
            follow(team, struct, 0)

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

    def run(self, program: Program) -> None:
        """Run a program to its end. Releases the GIL."""
        self._programs.add(program)  # a thread that lags behind still walks through it
        self._lead(self._lead_args[0], program.address, self._lead_args[1])

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
        n_sync = LINE * (1 + team.n_threads)
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
    from kernels.cpu import detect_cpu

    return Team(KernelCache(detect_cpu(cpu_isa), cache_directory), n_threads)
