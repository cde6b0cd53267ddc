"""Every recurrent op (cases.py) against its twin, and against itself: alone or packed with others,
cut at any token, with drafts of which any number is right, on one thread and several, on every
instruction set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.team import aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.cases import CASES
from tests.kernels.recurrent.harness import MAX_DRAFTS, equal_tiles, float_rows
from tests.kernels.recurrent.ops.base import OpCase, Part

N_TOKENS = 40  # more than a scan's segment
SLOTS = (3, 0, 5, 1)
# Compiling takes seconds a set: the others are left to `make test-isa`.
ON_ALL_SETS = ["conv", "delta net, one head", "kda, bounded", "mamba, odd", "mamba2, odd"]
RUNS = [(3, 0, 1), (0, 0, 35), (5, 0, 2), (1, 0, 17)]
REST = [(0, 35, 3), (3, 1, 2), (1, 17, 5)]


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are of the same bits."""
    a, b = (np.ascontiguousarray(x).view(np.int32) for x in (a, b))
    return np.array_equal(a, b)


def by_part(out: np.ndarray, parts: list[Part]) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(slot, first, number, outputs) of a step."""
    row = 0
    for slot, first, n in parts:
        yield slot, first, n, out[row : row + n]
        row += n


@contextmanager
def wrong_from(op: OpCase, firsts: list[tuple[int, int]]) -> Iterator[None]:
    """Inputs from a token on are anything; ``firsts``: [(slot, token)]."""
    kept = {slot: [rows.copy() for rows in op.inputs[slot]] for slot, _ in firsts}
    rng = np.random.default_rng(7)
    for slot, first in firsts:
        for rows in op.inputs[slot]:
            rows[first:] = rng.uniform(0.1, 0.9, rows[first:].shape)
    yield
    op.inputs |= kept


def whole(case, team) -> tuple[OpCase, np.ndarray]:
    """An op after all of slot 0's tokens at once, and their outputs."""
    op = case.make(team, N_TOKENS)
    return op, op.run([(0, 0, N_TOKENS)])


def test_matches_twin_fresh_and_continued(case, team):
    op = case.make(team, N_TOKENS)
    states = dict.fromkeys(SLOTS, None)
    near = {"rtol": case.rtol, "atol": case.atol}
    for step in (RUNS, REST):
        for slot, first, n, out in by_part(op.run(step), step):
            expected, states[slot] = op.expected(slot, first, n, states[slot])
            np.testing.assert_allclose(out, expected, **near)
            np.testing.assert_allclose(op.state(slot), states[slot], **near)


def test_cut_at_any_token(case, team):
    op, expected = whole(case, team)
    state = op.state(0).copy()
    for cut in range(1, N_TOKENS):
        op.bench.fresh[0] = 1
        op.bench.pool[op.bench.state_row[0]] = np.nan
        first = op.run([(0, 0, cut)])
        rest = op.run([(4, 0, 2), (0, cut, N_TOKENS - cut)])[2:]  # behind a stranger
        assert same(np.concatenate([first, rest]), expected), cut
        assert same(op.state(0), state), cut


@pytest.mark.parametrize("n_drafts", [1, MAX_DRAFTS])
def test_any_number_of_drafts_is_right(case, team, n_drafts):
    op, expected = whole(case, team)
    state, bench = op.state(0).copy(), op.bench
    for n_right in range(n_drafts + 1):
        bench.fresh[0], bench.pending[0] = 1, 0
        bench.pool[bench.state_row[0]] = np.nan
        out = [op.run([(0, 0, 6)])]
        bench.drafts = {0: n_drafts}
        with wrong_from(op, [(0, 7 + n_right)]):
            out.append(op.run([(0, 6, 1 + n_drafts)])[: 1 + n_right])
        bench.drafts, bench.pending[0] = {}, n_right
        out.append(op.run([(0, 7 + n_right, N_TOKENS - 7 - n_right)]))
        assert same(np.concatenate(out), expected), n_right
        assert same(op.state(0), state), n_right


def plan(rng: np.random.Generator, done: int, is_last: bool) -> tuple[int, int, int]:
    """Tokens of a run: certain ones, right drafts, wrong drafts."""
    left = N_TOKENS - done
    if is_last or not done:
        return (left if is_last else min(left, 1 + int(rng.integers(0, 12))), 0, 0)
    n_certain = int(rng.integers(1, 1 + min(left, 3)))
    n_drafts = int(rng.integers(0, 1 + min(MAX_DRAFTS, left - n_certain)))
    n_right = int(rng.integers(0, 1 + min(n_drafts, max(0, left - n_certain - 1))))
    return n_certain, n_right, n_drafts - n_right


def test_a_crowd_with_drafts_is_as_each_alone(case, team):
    plain, op = case.make(team, N_TOKENS), case.make(team, N_TOKENS)
    expected = {slot: plain.run([(slot, 0, N_TOKENS)]) for slot in SLOTS}
    rng = np.random.default_rng(5)
    done = dict.fromkeys(SLOTS, 0)
    for i in range(60):
        running = [
            slot for slot in SLOTS if done[slot] < N_TOKENS and (i > 12 or rng.random() < 0.8)
        ]
        if not running:
            continue
        plans = {slot: plan(rng, done[slot], i > 12) for slot in running}
        parts = [(slot, done[slot], sum(plans[slot])) for slot in running]
        op.bench.drafts = {slot: right + wrong for slot, (_, right, wrong) in plans.items()}
        with wrong_from(op, [(slot, done[slot] + sum(plans[slot][:2])) for slot in running]):
            out = op.run(parts)
        for slot, first, _, rows in by_part(out, parts):
            n_good = sum(plans[slot][:2])
            assert same(rows[:n_good], expected[slot][first : first + n_good])
            op.bench.pending[slot] = plans[slot][1]
            done[slot] += n_good
    assert all(n == N_TOKENS for n in done.values())
    for slot in SLOTS:  # the last token is always a certain one
        assert not op.bench.pending[slot]
        assert same(op.state(slot), plain.state(slot))


def test_one_sequence_of_nan_does_not_reach_another(case, team):
    op, clean = case.make(team, N_TOKENS), case.make(team, N_TOKENS)
    for rows in op.inputs[2]:
        rows[:] = np.nan
    out = op.run([(2, 0, 3), (4, 0, 5)])
    assert np.isnan(out[1:3]).all()
    assert same(out[3:], clean.run([(4, 0, 5)]))


def test_tiles_are_those_of_its_own_floats(case, team):
    if not case.has_tiles:
        pytest.skip("writes floats only")
    op, n_tokens = case.make(team, N_TOKENS), sum(n for _, _, n in RUNS)
    tiles, alone, expected = (
        aligned_zeros(-(-n_tokens // 8) * tile_bytes(op.n_out)) for _ in range(3)
    )
    out, stride = float_rows(op.run(RUNS, tiles))
    floats_too = case.make(team, N_TOKENS)
    assert np.isnan(floats_too.run(RUNS, alone, floats=False)).all()
    op.bench.run(
        "quantize", build_quantize, QUANTIZE, [(slot, n) for slot, _, n in RUNS],
        x=out, x_stride=stride, n=op.n_out, tiles=expected,
    )  # fmt: skip
    assert expected.any()
    assert equal_tiles(tiles, expected, op.n_out, n_tokens)
    assert equal_tiles(alone, expected, op.n_out, n_tokens)


@pytest.mark.parametrize(
    "name",
    [name if name in ON_ALL_SETS else pytest.param(name, marks=pytest.mark.isa) for name in CASES],
)
def test_same_bits_on_every_instruction_set(name, team_of):
    case = CASES[name]
    first, *others = (case.make(team_of(isa), N_TOKENS).run(RUNS) for isa in usable_isas())
    assert others
    assert np.isfinite(first).all()
    assert all(same(first, other) for other in others)
