"""Keys of blocks and the choice by them, against float64 and against themselves: cut anywhere, in a
crowd, with drafts of which any number is right."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.operands import STEP
from slotmux.kernels.ops.attention.choice import choice_bytes
from slotmux.kernels.ops.attention.choose import CHOOSE_BLOCKS, build_choose_blocks
from slotmux.kernels.ops.attention.index import INDEX_KEYS, build_index_keys, key_slots
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.harness import MAX_DRAFTS, Bench, aligned, float_rows
from tests.reference.index import block_keys, chosen_blocks

N_TOKENS, N_BLOCKS, MAX_BLOCKS = 100, 80, 8
EPS, MAGNITUDE = 1e-3, 1.25


class Rig(Bench):
    """A bench whose steps also have positions and blocks of cells."""

    def __init__(self, team, n_state=0, n_pending=0):
        super().__init__(team, n_state, n_pending)
        self.first = np.zeros(8, np.int64)  # a slot's next position
        free = np.random.default_rng(3).permutation(N_BLOCKS)
        self.tables = free[: 8 * MAX_BLOCKS].reshape(8, MAX_BLOCKS).astype(np.int32)

    def step(self, runs):
        words, keep = super().step(runs)
        positions = np.concatenate([self.first[slot] + np.arange(n) for slot, n in runs])
        positions = positions.astype(np.int32)
        words[STEP.positions // 8] = positions.ctypes.data
        words[STEP.block_tables // 8], words[STEP.max_blocks // 8] = (
            self.tables.ctypes.data,
            MAX_BLOCKS,
        )
        return words, [*keep, positions]


class Keys:
    """The op over slots' raw keys."""

    def __init__(self, team, ratio, d):
        rng = np.random.default_rng(100 * ratio + d)
        self.ratio, self.d, self.width = ratio, d, -(-d // 16) * 16
        self.bench = Rig(team, self.width, self.width)
        self.x = rng.normal(size=(8, N_TOKENS, d)).astype(np.float32)
        self.weight = rng.normal(size=d).astype(np.float32)
        self.frequency = rng.random(d // 2 - 1) * 3
        self.keys = np.empty((N_BLOCKS, key_slots(ratio), self.width), np.float32)
        self.forget()

    def forget(self):
        """Nothing was computed yet."""
        self.bench.pool[:], self.keys[:], self.bench.fresh[:] = np.nan, np.nan, 1
        self.bench.pending[:] = 0

    def run(self, parts):
        """Of parts [(slot, first, number)]."""
        x, stride = float_rows(np.concatenate([self.x[s, i : i + n] for s, i, n in parts]))
        for slot, first, _ in parts:
            self.bench.first[slot] = first
        self.bench.run(
            "index_keys", build_index_keys, INDEX_KEYS, [(slot, n) for slot, _, n in parts],
            x=x, x_stride=stride, ratio=self.ratio, weight=aligned(self.weight),
            eps=aligned([EPS]), frequency=self.frequency, magnitude=aligned([MAGNITUDE]),
            keys=self.keys, d=self.d, n_pairs=self.frequency.size,
        )  # fmt: skip

    def of(self, slot, n_tokens=N_TOKENS):
        """Keys of a slot's blocks that are complete."""
        ends = np.arange(self.ratio - 1, n_tokens, self.ratio)
        cells = self.bench.tables[slot, ends // 16]
        return self.keys[cells, ends % 16 // self.ratio].copy()

    def expected(self, slot):
        return block_keys(
            self.x[slot], self.ratio, self.weight, EPS, self.frequency, np.float32(MAGNITUDE)
        )


@pytest.fixture(params=[(2, 16), (3, 40), (4, 24), (16, 128), (24, 24), (32, 16)], ids=str)
def keys(request, team_of):
    return Keys(team_of("auto", 3), *request.param)


def test_keys_are_those_of_the_twin(keys):
    keys.run([(2, 0, N_TOKENS), (5, 0, 33)])
    got = keys.of(2)
    assert len(got) == N_TOKENS // keys.ratio
    np.testing.assert_allclose(got[:, : keys.d], keys.expected(2), rtol=1e-4, atol=1e-5)
    assert not got[:, keys.d :].any()
    n = 33 // keys.ratio
    np.testing.assert_allclose(
        keys.of(5, 33)[:, : keys.d], keys.expected(5)[:n], rtol=1e-4, atol=1e-5
    )
    # Nothing else was written.
    n_written = N_TOKENS // keys.ratio + n
    assert (~np.isnan(keys.keys[..., 0])).sum() == n_written


def test_cut_at_any_token(keys):
    keys.run([(0, 0, N_TOKENS)])
    want, state = keys.of(0), keys.bench.state(0).copy()
    for cut in range(1, N_TOKENS):
        keys.forget()
        keys.run([(0, 0, cut)])
        keys.run([(4, 0, 2), (0, cut, N_TOKENS - cut)])
        assert np.array_equal(keys.of(0), want), cut
        assert np.array_equal(keys.bench.state(0), state), cut


def test_token_by_token_in_a_crowd(keys):
    keys.run([(slot, 0, N_TOKENS) for slot in (0, 1, 2)])
    want = [keys.of(slot) for slot in (0, 1, 2)]
    keys.forget()
    for t in range(N_TOKENS):
        keys.run([(slot, t, 1) for slot in (2, 0, 1)])
    assert all(np.array_equal(keys.of(slot), want[slot]) for slot in (0, 1, 2))


@pytest.mark.parametrize("n_drafts", [1, MAX_DRAFTS])
def test_any_number_of_drafts_is_right(keys, n_drafts):
    keys.run([(0, 0, N_TOKENS)])
    want, state, right = keys.of(0), keys.bench.state(0).copy(), keys.x.copy()
    for first in range(5, 10):
        for n_right in range(n_drafts + 1):
            keys.forget()
            keys.run([(0, 0, first)])
            keys.bench.drafts = {0: n_drafts}
            keys.x[0, first + 1 + n_right :] = 7.0
            keys.run([(0, first, 1 + n_drafts)])
            keys.x, done = right.copy(), first + 1 + n_right
            # What right drafts complete is there for whoever reads it at once.
            n = done // keys.ratio
            assert np.array_equal(keys.of(0)[:n], want[:n])
            keys.bench.drafts, keys.bench.pending[0] = {}, n_right
            keys.run([(0, done, N_TOKENS - done)])
            assert np.array_equal(keys.of(0), want), (first, n_right)
            assert np.array_equal(keys.bench.state(0), state), (first, n_right)


def test_same_keys_on_every_instruction_set(team_of):
    found = []
    for isa in usable_isas():
        each = Keys(team_of(isa), 4, 24)
        each.run([(0, 0, N_TOKENS)])
        found.append(each.of(0).tobytes())
    assert len(set(found)) == 1


def choose(team, ratio, d, n_head, n_most, first, n, is_whole):
    """Bits and twin's blocks of tokens ``first`` to ``first + n`` of slot 1, n of slot 6 before
    them. ``is_whole``: whole numbers, so that many scores are equal and all are exact."""
    rng = np.random.default_rng(ratio + d)
    draw = (lambda *s: rng.integers(-2, 3, s)) if is_whole else (lambda *s: rng.normal(size=s))
    rig, width = Rig(team), -(-d // 16) * 16
    rig.first[[6, 1]] = 3, first
    keys = np.full((N_BLOCKS, key_slots(ratio), width), np.nan, np.float32)
    ends = np.arange(ratio - 1, 16 * MAX_BLOCKS, ratio)
    of = {}
    for slot in (6, 1):
        of[slot] = draw(len(ends), d).astype(np.float32)
        place = rig.tables[slot, ends // 16], ends % 16 // ratio
        keys[place] = np.pad(of[slot], ((0, 0), (0, width - d)))
    q = draw(2 * n, n_head, d).astype(np.float32)
    rows, stride = float_rows(q.reshape(2 * n, -1))
    row_bytes = choice_bytes(16 * MAX_BLOCKS, ratio)
    bits = np.full((2 * n + 1, row_bytes), 0xAA, np.uint8)
    rig.run("choose_blocks", build_choose_blocks, CHOOSE_BLOCKS, [(6, n), (1, n)], q=rows,
            q_stride=stride, keys=keys, n_head=n_head, ratio=ratio, n_most=n_most,
            n_positions=16 * MAX_BLOCKS, row_bytes=row_bytes, chosen=bits, d=d)  # fmt: skip
    assert (bits[-1] == 0xAA).all()
    want = []
    for i, (slot, pos) in enumerate(
        [(6, 3 + t) for t in range(n)] + [(1, first + t) for t in range(n)]
    ):
        n_blocks = (pos + 1) // ratio
        taken = chosen_blocks(q[i].astype(np.float64), of[slot][:n_blocks], n_most)
        tail = [n_blocks] if (pos + 1) % ratio else []
        want.append([*taken, *tail])
        seen = np.flatnonzero(np.unpackbits(bits[i], bitorder="little"))
        assert [b for b in seen if b * ratio <= pos] == want[-1], (slot, pos)
    return bits


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize(
    ("ratio", "d", "n_head", "n_most"),
    [(2, 16, 1, 5), (2, 24, 3, 31), (4, 40, 8, 6), (16, 128, 4, 2), (24, 24, 2, 1)],
)
def test_the_best_blocks_and_of_equal_ones_the_first_are_chosen(
    team_of, ratio, d, n_head, n_most, is_whole
):
    runs = [
        choose(team_of("auto", n_threads), ratio, d, n_head, n_most, 97, 31, is_whole)
        for n_threads in (1, 3)
    ]
    assert np.array_equal(*runs)


def test_where_no_score_is_above_zero_the_first_blocks_are_chosen(team_of):
    rig, ratio = Rig(team_of("auto", 1)), 2
    rig.first[0] = 99
    keys = np.full((N_BLOCKS, 8, 16), -1.0, np.float32)
    q, stride = float_rows(np.ones((1, 16), np.float32))
    bits = np.zeros((1, choice_bytes(128, ratio)), np.uint8)
    rig.run("choose_blocks", build_choose_blocks, CHOOSE_BLOCKS, [(0, 1)], q=q, q_stride=stride,
            keys=keys, n_head=1, ratio=ratio, n_most=7, n_positions=128, row_bytes=bits.shape[1],
            chosen=bits, d=16)  # fmt: skip
    seen = np.flatnonzero(np.unpackbits(bits[0], bitorder="little"))
    assert seen.tolist() == [*range(7), 50]  # and the next block to begin, at position 100
