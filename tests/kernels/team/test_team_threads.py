"""The thread team among slow, late and idle threads: order, stealing, sleep, and its end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from slotmux.kernels.address import atomic_add, cpu_pause, load_acquire, load_i64, store_i64
from slotmux.kernels.claims import T_TID, claim
from slotmux.kernels.operands import fill, words
from slotmux.kernels.team import Program, aligned_zeros, make_team
from tests.kernels.conftest import source_digest

# n: address of the number of chunks; source, target: int64 [n + 1]; done: a counter.
OP = words("Op", "n source target done")
PATIENCE = 2_000_000_000  # rounds of pause before a kernel gives a lost test up


def build_sum():
    """target[chunk] = sum of source + chunk, after a pause that depends on chunk and thread."""

    def sum_source(op, step, thread):
        n = load_i64(load_i64(op + OP.n))
        chunk = claim(thread, n)
        while chunk >= 0:
            source, target = load_i64(op + OP.source), load_i64(op + OP.target)
            pause = (chunk * 7919 + load_i64(thread + 8 * T_TID) * 104729 + load_i64(step)) % 97
            for _ in range(pause * pause // 4):
                cpu_pause()
            total = np.int64(0)
            for i in range(n):
                total += load_i64(source + 8 * i)
            store_i64(target + 8 * chunk, total % 1000003 + chunk)
            chunk = claim(thread, n)

    return sum_source


def build_wait_for_others():
    """Chunk 0 is finished only when every other chunk is; ``target``[0] becomes 1 if it waited."""

    def wait_for_others(op, step, thread):
        n = load_i64(load_i64(op + OP.n))
        chunk = claim(thread, n)
        while chunk >= 0:
            done = load_i64(op + OP.done)
            if chunk > 0:
                atomic_add(done, 1)
            else:
                rounds = np.int64(0)
                while load_acquire(done) < n - 1 and rounds < PATIENCE:
                    rounds += 1
                    cpu_pause()
                store_i64(load_i64(op + OP.target), np.int64(rounds < PATIENCE))
            chunk = claim(thread, n)

    return wait_for_others


def build_wait_for_flag():
    """Waits until ``done`` is set from outside; ``target``[0] becomes 1 if it was."""

    def wait_for_flag(op, step, thread):
        chunk = claim(thread, 1)
        while chunk >= 0:
            rounds = np.int64(0)
            while load_acquire(load_i64(op + OP.done)) == 0 and rounds < PATIENCE:
                rounds += 1
                cpu_pause()
            store_i64(load_i64(op + OP.target), np.int64(rounds < PATIENCE))
            chunk = claim(thread, 1)

    return wait_for_flag


BUILDERS = {"sum": build_sum, "others": build_wait_for_others, "flag": build_wait_for_flag}


@pytest.fixture
def team_with(kernel_cache_dir):
    """team_with(n_threads): a team that is closed after the test."""
    teams = []

    def make(n_threads):
        teams.append(make_team("auto", n_threads, kernel_cache_dir))
        return teams[-1]

    yield make
    for team in teams:
        team.close()


def address(team, kind):
    return team.kernels.address(f"test.{source_digest(__file__)}.{kind}", BUILDERS[kind])


def words_of(n):
    return aligned_zeros(8 * n).view(np.int64)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5, 8])
def test_an_op_that_waits_sees_all_that_was_written_before(team_with, n_threads):
    """Each op sums what the one before wrote: one chunk missing or early changes the end."""
    team, n, n_ops = team_with(n_threads), words_of(1), 12
    buffers = [words_of(33) for _ in range(n_ops + 1)]
    step = words_of(1)
    ops = [
        (
            address(team, "sum"),
            fill(OP, n=n, source=buffers[i], target=buffers[i + 1], done=0),
            i - 1,
        )
        for i in range(n_ops)
    ]
    program = Program(team, step, ops)
    rng = np.random.default_rng(n_threads)
    for run in range(25):
        n[0] = size = int(rng.integers(1, 33))
        step[0] = run * 31
        for buffer in buffers:
            buffer[:] = -1
        buffers[0][:size] = expected = rng.integers(0, 1000, size)
        team.run(program)
        for _ in range(n_ops):
            expected = expected.sum() % 1000003 + np.arange(size)
        assert buffers[-1][:size].tolist() == expected.tolist(), f"run {run}"
        assert (buffers[-1][size:] == -1).all()


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_the_share_of_a_thread_that_is_held_up_is_taken_over(team_with, n_threads):
    team, n, target, done = team_with(n_threads), words_of(1), words_of(1), words_of(1)
    n[0] = 64
    operands = fill(OP, n=n, source=0, target=target, done=done)
    program = Program(team, words_of(1), [(address(team, "others"), operands, -1)])
    for _ in range(20):
        done[0] = target[0] = 0
        team.run(program)
        assert target[0] == 1, "nobody computed the chunks beside the one that waited"


def test_threads_take_part_in_a_run_that_began_before_them(team_with):
    """The first run follows at once: the others' threads may not have come to their loop yet."""
    for _ in range(20):
        team, n, target, done = team_with(3), words_of(1), words_of(1), words_of(1)
        n[0] = 64
        operands = fill(OP, n=n, source=0, target=target, done=done)
        team.run(Program(team, words_of(1), [(address(team, "others"), operands, -1)]))
        assert target[0] == 1


def test_a_run_leaves_python_to_others(team_with):
    """Another Python thread sets the flag that the kernel waits for: the GIL is free."""
    team, target, done = team_with(2), words_of(1), words_of(1)
    operands = fill(OP, n=0, source=0, target=target, done=done)
    program = Program(team, words_of(1), [(address(team, "flag"), operands, -1)])
    timer = threading.Timer(0.05, lambda: done.__setitem__(0, 1))
    timer.start()
    team.run(program)
    timer.join()
    assert target[0] == 1


@pytest.mark.timing
def test_an_idle_team_uses_no_cpu(team_with):
    team, n = team_with(8), words_of(1)
    n[0] = 16
    buffers = [words_of(17) for _ in range(2)]
    operands = fill(OP, n=n, source=buffers[0], target=buffers[1], done=0)
    program = Program(team, words_of(1), [(address(team, "sum"), operands, -1)])
    others_before = threading.active_count()
    for _ in range(3):
        team.run(program)
        time.sleep(0.05)  # what is left of the spinning
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.05
    assert threading.active_count() == others_before


def test_threads_that_sleep_wake_for_the_next_run(team_with):
    team, n, target, done = team_with(4), words_of(1), words_of(1), words_of(1)
    n[0] = 8
    operands = fill(OP, n=n, source=0, target=target, done=done)
    program = Program(team, words_of(1), [(address(team, "others"), operands, -1)])
    for pause in (0, 0.001, 0.02, 0.2):
        time.sleep(pause)
        done[0] = target[0] = 0
        team.run(program)
        assert target[0] == 1


def test_close_ends_every_thread_and_may_be_called_again(kernel_cache_dir):
    for pause in (0, 0.05):  # while they spin, and when they sleep
        before = threading.active_count()
        team = make_team("auto", 6, kernel_cache_dir)
        assert threading.active_count() == before + 5
        time.sleep(pause)
        team.close()
        assert threading.active_count() == before
        team.close()


def test_programs_and_ops_may_be_empty(team_with):
    for n_threads in (1, 3):
        team, n = team_with(n_threads), words_of(1)
        team.run(Program(team, words_of(1), []))
        operands = fill(OP, n=n, source=0, target=0, done=0)
        ops = [(address(team, "sum"), operands, wait) for wait in (-1, 0, 1)]
        program = Program(team, words_of(1), ops)
        assert program.n_ops == 3
        for _ in range(50):
            team.run(program)


@pytest.mark.parametrize("n_threads", [0, -1])
def test_a_team_needs_a_thread(n_threads, kernel_cache_dir):
    with pytest.raises(ValueError, match="n_threads"):
        make_team("auto", n_threads, kernel_cache_dir)


def test_operands_must_fit_their_layout():
    with pytest.raises(ValueError, match="done"):
        fill(OP, n=0, source=0, target=0)
    with pytest.raises(ValueError, match="more"):
        fill(OP, n=0, source=0, target=0, done=0, more=1)
    array = np.arange(3)
    filled = fill(OP, n=5, source=array, target=-2, done=0)
    assert filled.tolist() == [5, array.ctypes.data, -2, 0]
