"""Attention to chosen blocks against softmax attention in float64, and against itself."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.attention.choice import choice_bytes
from tests.kernels.attention.test_attention import (
    CELLS,
    LENGTHS,
    MAX_BLOCKS,
    PAIRS,
    Case,
    assert_twin,
)
from tests.kernels.conftest import usable_isas


class Chosen(Case):
    """Each token attends to the block it is in and to a share of the others."""

    def __init__(self, lengths, n_head, n_head_kv, d, cell_types, capacity, ratio, share=0.3):
        super().__init__(lengths, n_head, n_head_kv, d, 0, cell_types, capacity)
        rng = np.random.default_rng(ratio)
        self.ratio, n_tokens = ratio, len(self.positions)
        n_bytes = choice_bytes(CELLS * MAX_BLOCKS, ratio)
        self.taken = rng.random((n_tokens, 8 * n_bytes)) < share
        self.taken[np.arange(n_tokens), self.positions // ratio] = True
        self.choice = np.packbits(self.taken, axis=1, bitorder="little")

    def sees(self, seq, i, first, pos):
        return self.taken[self.starts[seq] + i, np.arange(first, pos + 1) // self.ratio]


@pytest.mark.parametrize("cell_types", [("f32", "f32"), ("f16", "f16"), ("i16", "i16")])
@pytest.mark.parametrize("ratio", [2, 3, 16, 24, 48, 128, 200])
def test_tokens_see_what_they_have_chosen(team_of, cell_types, ratio):
    for n_head, n_head_kv, d in ((6, 2, 64), (4, 1, 24)):
        case = Chosen(LENGTHS, n_head, n_head_kv, d, cell_types, 102, ratio)
        assert_twin(team_of("auto", 3), case)


@pytest.mark.parametrize("cell_types", PAIRS)
def test_every_pair_of_cell_types(team_of, cell_types):
    lengths = [(300, 1), (130, 2), (40, 5), (0, 40), (9, 1)]
    for n_head, capacity in ((1, 16), (3, 0)):
        assert_twin(team_of("auto", 2), Chosen(lengths, n_head, 1, 64, cell_types, capacity, 16))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("cell_type", ["f16", "i16"])
def test_the_same_bits_split_or_not_on_any_number_of_threads(team_of, cell_type, share):
    """With a small share most chunks are left out of a single token's, few of a tile's."""
    runs, types = [], (cell_type, cell_type)
    for capacity, n_threads in ((102, 1), (102, 3), (40, 2), (0, 3)):
        case = Chosen(LENGTHS, 6, 2, 64, types, capacity, 16, share)
        runs.append(case.run(team_of("auto", n_threads)))
    assert np.isfinite(runs[0]).all()
    assert all(np.array_equal(run, runs[0]) for run in runs)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_a_token_is_the_same_alone_and_behind_others(team_of, n):
    """The last token of n, as one of a tile and by itself."""
    many = Chosen([(300, n)], 6, 2, 64, ("f16", "f16"), 400, 16, 0.1)
    one = Chosen([(300, n)], 6, 2, 64, ("f16", "f16"), 400, 16, 0.1)
    want = many.run(team_of("auto", 2))[-1]
    one.lengths, one.positions = [(300 + n - 1, 1)], one.positions[-1:].copy()
    one.starts, one.q = np.array([0, 1], np.int32), one.q[-1:].copy()
    one.choice = one.choice[-1:].copy()
    assert np.array_equal(one.run(team_of("auto", 2))[0], want)


def test_who_chooses_all_blocks_has_the_bits_of_who_has_no_choice(team_of):
    for cell_type in ("f16", "q8_0"):
        types = (cell_type, cell_type)
        all_chosen = Chosen(LENGTHS, 6, 2, 64, types, 102, 16, share=2.0)
        plain = Case(LENGTHS, 6, 2, 64, 0, types, 102)
        got, want = (case.run(team_of("auto", 2)) for case in (all_chosen, plain))
        assert np.array_equal(got, want)


def test_same_bits_on_every_instruction_set(team_of):
    for cell_type in ("f16", "i16"):
        case = Chosen(LENGTHS, 6, 2, 64, (cell_type, cell_type), 102, 24)
        runs = [case.run(team_of(isa)) for isa in usable_isas()]
        assert all(np.array_equal(run, runs[0]) for run in runs)
