"""The thread team: every chunk of every op is computed once, in every run, whoever lags behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slotmux.kernels.address import atomic_add, load_i64, store_i64
from slotmux.kernels.claims import T_EPOCH, T_SYNC, claim
from slotmux.kernels.compiler import KernelCache, as_callable
from slotmux.kernels.cpu import detect_cpu
from slotmux.kernels.operands import STEP, fill, words
from slotmux.kernels.team import Program, Team, aligned_zeros, make_team
from tests.kernels.conftest import source_digest

COUNT = words("Count", "counters")
N_OPS, MOST = 40, 64


def build_count() -> Callable[..., None]:
    """Adds 1 to the counter of each chunk; as many chunks as the step has tokens."""

    def count(op, step, thread):  # type: ignore[no-untyped-def]
        n_chunks = load_i64(step + STEP.n_tokens)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            atomic_add(load_i64(op + COUNT.counters) + 8 * chunk, 1)
            chunk = claim(thread, n_chunks)

    return count


@pytest.mark.parametrize("groups", [(1,), (2,), (5,), (1, 1), (2, 3), (1, 3, 1)])
def test_every_chunk_is_computed_once(groups: tuple[int, ...], kernel_cache_dir: Path) -> None:
    n_threads = sum(groups)
    team = Team(KernelCache(detect_cpu(), kernel_cache_dir), n_threads, groups=groups)
    step = aligned_zeros(8 * len(STEP._fields)).view(np.int64)
    counters = aligned_zeros(8 * N_OPS * MOST).view(np.int64).reshape(N_OPS, MOST)
    address = team.kernels.address("test.count", build_count)
    # Waits here and there: threads lag by more or fewer ops, and behind the end of a run.
    waits = [0 if i == 7 else 7 if i == 30 else -1 for i in range(N_OPS)]
    ops = [(address, fill(COUNT, counters=counters[i]), wait) for i, wait in enumerate(waits)]
    program = Program(team, step, ops)
    rng = np.random.default_rng(n_threads)
    try:
        for run in range(3000):
            n = int(rng.integers(0, MOST + 1)) if run % 3 else (1, MOST)[run % 2]
            step[STEP.n_tokens // 8] = n
            counters[:] = 0
            team.run(program)
            assert (counters[:, :n] == 1).all(), f"run {run}: a chunk was left out or done twice"
            assert not counters[:, n:].any(), f"run {run}: a chunk of another run"
    finally:
        team.close()


def test_a_program_may_be_dropped_while_others_run(kernel_cache_dir: Path) -> None:
    team = make_team("auto", 3, kernel_cache_dir)
    step = aligned_zeros(8 * len(STEP._fields)).view(np.int64)
    counters = aligned_zeros(8 * MOST).view(np.int64)
    address = team.kernels.address("test.count", build_count)
    step[STEP.n_tokens // 8] = MOST
    for _ in range(300):
        team.run(Program(team, step, [(address, fill(COUNT, counters=counters), -1)] * 5))
    team.close()
    assert (counters == 1500).all()


def test_pinned_threads_run_where_they_were_tied(kernel_cache_dir):
    """Every follower is on its CPU; the program's result is the same."""
    cpus = sorted(os.sched_getaffinity(0))
    sets = [{cpus[tid % len(cpus)]} for tid in range(3)]
    team = Team(KernelCache(detect_cpu(), kernel_cache_dir), 3, cpus=sets)
    try:
        deadline = time.monotonic() + 5.0
        wanted = [{cpus[tid % len(cpus)]} for tid in (1, 2)]
        while time.monotonic() < deadline:
            found = [os.sched_getaffinity(thread.native_id) for thread in team._threads]
            if found == wanted:
                break
            time.sleep(0.01)
        assert found == wanted
        assert os.sched_getaffinity(0) == set(cpus)
    finally:
        team.close()


def test_the_caller_is_tied_while_it_runs_programs_and_free_again(kernel_cache_dir):
    allowed = os.sched_getaffinity(0)
    first, last = min(allowed), max(allowed)
    team = Team(
        KernelCache(detect_cpu(), kernel_cache_dir), 2, cpus=[{first}, {last}], groups=(1, 1),
        ties_caller=True,
    )  # fmt: skip
    step = aligned_zeros(8 * len(STEP._fields)).view(np.int64)
    try:
        assert os.sched_getaffinity(0) == allowed
        for _ in range(2):
            team.run(Program(team, step, []))
            assert os.sched_getaffinity(0) == {first}
        team.untie_caller()
        assert os.sched_getaffinity(0) == allowed
        team.run(Program(team, step, []))
        assert os.sched_getaffinity(0) == {first}
    finally:
        os.sched_setaffinity(0, allowed)
        team.close()


@pytest.mark.parametrize("groups", [(1,), (2, 1), (3, -1), (0, 2)])
def test_groups_are_all_threads(groups, kernel_cache_dir):
    with pytest.raises(ValueError, match="groups"):
        Team(KernelCache(detect_cpu(), kernel_cache_dir), 2, groups=groups)


SHARES = words("Shares", "takers n_chunks")


def build_takers() -> Callable[..., None]:
    """Notes who took each chunk, in the order of taking: a thread's own number."""

    def takers(op, step, thread):  # type: ignore[no-untyped-def]
        chunk = claim(thread, load_i64(op + SHARES.n_chunks))
        while chunk >= 0:
            n = atomic_add(load_i64(op + SHARES.takers), 1)
            store_i64(load_i64(op + SHARES.takers) + 8 * (1 + n), chunk)
            chunk = claim(thread, load_i64(op + SHARES.n_chunks))

    return takers


def test_a_thread_takes_its_groups_shares_before_the_others(kernel_cache_dir):
    """One thread at work, number 3 of groups of 2 and 3: its own share, its group's, the rest."""
    kernels = KernelCache(detect_cpu(), kernel_cache_dir)
    team = Team(kernels, 5, groups=(2, 3))
    address = kernels.address(f"test.{source_digest(__file__)}.takers", build_takers)
    order = aligned_zeros(8 * 11).view(np.int64)
    step = aligned_zeros(8 * len(STEP._fields)).view(np.int64)
    operands = fill(SHARES, takers=order, n_chunks=10)
    program = Program(team, step, [(address, operands, -1)])
    struct = team._structs[3]
    team.close()  # the others are gone: the struct of one of them is ours
    struct[T_EPOCH], struct[T_SYNC] = 2, program._sync.ctypes.data
    as_callable(address, 3)(
        int(operands.ctypes.data), int(step.ctypes.data), int(struct.ctypes.data)
    )
    assert order[0] == 10
    assert order[1:].tolist() == [6, 7, 8, 9, 4, 5, 0, 1, 2, 3]


def test_work_beside_a_run_is_done_and_what_it_raises_comes_out_at_the_end(kernel_cache_dir):
    team = make_team("auto", 3, kernel_cache_dir)
    step = aligned_zeros(8 * len(STEP._fields)).view(np.int64)
    counters = aligned_zeros(8 * MOST).view(np.int64)
    address = team.kernels.address("test.count", build_count)
    step[STEP.n_tokens // 8] = MOST
    program = Program(team, step, [(address, fill(COUNT, counters=counters), -1)] * 5)
    done = []

    def fail():
        raise LookupError("beside")

    try:
        team.run(program, lambda: done.append(1))
        with pytest.raises(LookupError, match="beside"):
            team.run(program, fail)
        assert (counters == 10).all()  # both runs came to their end
        assert done == [1]
    finally:
        team.close()
