"""What the threads of a team run: claiming chunks of work, waiting, leading and following.

An op is done when its chunks are, not when all threads have arrived. A thread that was preempted
outside a chunk, or that woke up late, holds nobody up: others take its share, it finds nothing
left to claim and runs on. Who computed a chunk has no influence on the result.

Words shared by threads carry the run's number (epoch) in their upper bits, so that nothing needs
resetting between runs and a thread left behind in an older run cannot claim from a newer one.

Memory order, also on CPUs that keep less of it than x86 does:

What is handed on. Whoever writes data then changes a shared word by an atomic read-modify-write,
which releases; whoever reads data has read that word by ``load_acquire``, or changed it. A count of
finished chunks is only ever changed so: who reads the last change of a count sees what all those
wrote who changed it before. A run's program and sizes are handed on by the epoch.

Groups. Threads of one NUMA node are a group: they count an op's finished chunks in a word of their
own, so that no thread writes, chunk by chunk, to a line that another socket writes; who waits adds
the groups up. A thread takes what its own group's threads own before what others' do, and weights
are where those who own their panels are (runtime/numa.py).

Who sleeps. A thread that waits counts itself among the sleepers and then looks at the counts once
more; a thread that changes a count then looks whether anybody sleeps. Each writes one word and
reads the other's: with acquire and release alone both may read the old value (store buffering), and
the sleeper is never woken. So these reads are ``load_in_order`` and the writes before them
read-modify-writes, all sequentially consistent: in their one order either the change comes before
the sleeper's look, which sees it, or the sleeper was counted before the changer's look, who wakes.
The sleeper sleeps on the op's bell, which it has read before it looked; who wakes rings it first.
The rest is the futex's: it compares the bell and goes to sleep in one step, against every wake.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slotmux.kernels.address import (
    atomic_add,
    atomic_swap,
    call_kernel,
    compare_and_swap,
    cpu_pause,
    futex_wait,
    futex_wake,
    load_acquire,
    load_i64,
    load_in_order,
    store_i64,
)

LINE = 64  # bytes; words that different threads write stand on lines of their own
COUNT_BITS = 20  # of a shared word: chunks; the epoch is above
COUNT_MASK = (1 << COUNT_BITS) - 1
# An op's lines: the bell that sleepers sleep on, and at AGREED its chunks in all; each group's
# count of finished chunks; each thread's count of chunks that were taken from its share.
AGREED = 8
# Rounds of pause before a waiting thread sleeps: about 20 us, more than a chunk takes.
SPIN_ROUNDS = 600
# Between two runs, about 130 us: longer than the engine takes from one step to the next.
IDLE_ROUNDS = 4000

# A thread's own struct, in int64 words.
T_TID, T_N_THREADS, T_EPOCH, T_HELD, T_N_DONE, T_OP_INDEX, T_SYNC, T_TOTALS, T_TEAM, T_SCRATCH = (
    range(10)
)
# Its group: which, of how many; its first thread, and how many it has.
T_GROUP, T_N_GROUPS, T_GROUP_FIRST, T_GROUP_SIZE = range(10, 14)
# The team's struct, in bytes: the run's number (odd while it is being changed), threads asleep,
# the program to run, and whether to stop.
TEAM_EPOCH, TEAM_SLEEPERS, TEAM_PROGRAM, TEAM_STOP = 0, LINE, 2 * LINE, 3 * LINE
# A program: number of ops, address of the step, then four words an op.
P_N_OPS, P_STEP, P_FINAL_WAIT, P_ENTRIES = range(4)
E_KERNEL, E_OP, E_SYNC, E_WAIT_FROM = range(4)
N_ENTRY_WORDS = 4


@njit
def _publish(thread, sync, epoch, n_done):
    """Add to the group's count of the op's finished chunks and wake who waits for them."""
    word = sync + LINE * (1 + load_i64(thread + 8 * T_GROUP))
    while True:
        value = load_acquire(word)
        count = n_done
        if value >> COUNT_BITS == epoch:
            count += value & COUNT_MASK
        if compare_and_swap(word, value, (epoch << COUNT_BITS) | count):
            break
    if load_in_order(load_i64(thread + 8 * T_TEAM) + TEAM_SLEEPERS) > 0:
        atomic_add(sync, 1)
        futex_wake(sync)


@njit
def _is_done(thread, sync, epoch, total):
    """Whether all groups together have finished ``total`` chunks of an op."""
    n_done = np.int64(0)
    for group in range(load_i64(thread + 8 * T_N_GROUPS)):
        value = load_in_order(sync + LINE * (1 + group))
        seen = value >> COUNT_BITS
        if seen > epoch:
            return True  # this run is over
        if seen == epoch:
            n_done += value & COUNT_MASK
    return n_done >= total


@njit
def _owner(thread, i):
    """The thread whose share is taken from as the ``i``-th: this one, then those of its group, then
    the others behind it, all in turn."""
    first, size = load_i64(thread + 8 * T_GROUP_FIRST), load_i64(thread + 8 * T_GROUP_SIZE)
    if i < size:
        return first + (load_i64(thread + 8 * T_TID) - first + i) % size
    return (first + i) % load_i64(thread + 8 * T_N_THREADS)


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

    A thread takes from its own share first, then from the others', those of its group before the
    rest. Asking again tells that the chunk taken before is finished. Kernels touch an operand only
    after a claim has succeeded.
    """
    sync = load_i64(thread + 8 * T_SYNC)
    epoch = load_i64(thread + 8 * T_EPOCH)
    n_threads = load_i64(thread + 8 * T_N_THREADS)
    n_done = load_i64(thread + 8 * T_N_DONE) + load_i64(thread + 8 * T_HELD)
    n_chunks = _agreed(sync, epoch, n_chunks)
    shares = sync + LINE * (1 + load_i64(thread + 8 * T_N_GROUPS))
    for i in range(n_threads):
        owner = _owner(thread, i)
        first = n_chunks * owner // n_threads
        end = n_chunks * (owner + 1) // n_threads
        word = shares + LINE * owner
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
    while total > 0 and not _is_done(thread, sync, epoch, total):
        if rounds < SPIN_ROUNDS:
            rounds += 1
            cpu_pause()
            continue
        bell = load_acquire(sync)
        atomic_add(sleepers, 1)
        if not _is_done(thread, sync, epoch, total):
            futex_wait(sync, bell)
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


@njit
def _announce(team, program, thread):
    """Have the others begin a run; returns its number."""
    epoch = load_acquire(team + TEAM_EPOCH)
    atomic_swap(team + TEAM_EPOCH, epoch + 1)
    atomic_swap(team + TEAM_PROGRAM, program)
    epoch += 2
    atomic_swap(team + TEAM_EPOCH, epoch)
    if load_i64(thread + 8 * T_N_THREADS) > 1 and load_in_order(team + TEAM_SLEEPERS) > 0:
        futex_wake(team + TEAM_EPOCH)
    return epoch


@njit
def _take_part(program, thread, epoch):
    """Run a program with the others and return when all of it is done (the calling thread)."""
    _run_ops(program, thread, epoch)
    n_ops = load_i64(program + 8 * P_N_OPS)
    _wait_for_ops(program, thread, load_i64(program + 8 * P_FINAL_WAIT), n_ops)


def lead(team, program, thread):
    """Run a program on the whole team and return when all of it is done (the calling thread)."""
    _take_part(program, thread, _announce(team, program, thread))


def begin(team, program, thread):
    """Have the others begin to run a program; ``join`` must follow."""
    _announce(team, program, thread)


def join(team, program, thread):
    """Take part in the run that ``begin`` began, to its end (the calling thread)."""
    _take_part(program, thread, load_acquire(team + TEAM_EPOCH))


def follow(team, thread, unused):
    """Take part in every run of the team until it is stopped (the other threads)."""
    last = np.int64(0)  # also a run that began before this thread did is to be taken part in
    rounds = 0
    while True:
        epoch = load_acquire(team + TEAM_EPOCH)
        if load_acquire(team + TEAM_STOP) != 0:  # after the epoch, which ``stop`` changes last
            return
        if epoch == last or epoch & 1:
            if rounds < IDLE_ROUNDS:
                rounds += 1
                cpu_pause()
                continue
            atomic_add(team + TEAM_SLEEPERS, 1)
            if load_in_order(team + TEAM_EPOCH) == epoch:
                futex_wait(team + TEAM_EPOCH, epoch)
            atomic_add(team + TEAM_SLEEPERS, -1)
            continue
        program = load_acquire(team + TEAM_PROGRAM)
        if load_acquire(team + TEAM_EPOCH) != epoch:
            continue
        last = epoch
        rounds = 0
        _run_ops(program, thread, epoch)


def stop(team, unused1, unused2):
    """Let every following thread return."""
    atomic_swap(team + TEAM_STOP, 1)
    epoch = load_acquire(team + TEAM_EPOCH)
    atomic_swap(team + TEAM_EPOCH, epoch + 2)
    futex_wake(team + TEAM_EPOCH)
