"""Attention of whole texts against softmax attention in float64: sizes of heads and texts, windows,
ALiBi; and its bits: alone or packed, on any number of threads, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.operands import STEP, fill, round_up
from slotmux.kernels.ops.attention.both_ways import (
    BOTH_WAYS,
    PART_TOKENS,
    build_both_ways,
)
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.reference.texts import both_ways

LENGTHS = (1, 15, 16, 17, 511, 512)
SHORT = (1, 7, 8, 9, 16, 17, 63, 127, 128, 129, 200)


class Texts:
    """Rows of texts, one behind the other: q, k and v side by side as a fused product leaves them,
    NaN around them."""

    def __init__(
        self, lengths, n_head, n_head_kv, d, v_dim=0, *, window=0, leans=False, scale=0.3, size=1.0
    ):
        rng = np.random.default_rng(d + n_head)
        self.lengths, self.n_head, self.n_head_kv, self.d = lengths, n_head, n_head_kv, d
        self.v_dim, self.window, self.scale = v_dim or d, window, scale
        self.slopes = (0.5 ** (1 + np.arange(n_head))).astype(np.float32) if leans else None
        self.starts = np.cumsum([0, *lengths])
        self.n, self.widths = sum(lengths), (n_head * d, n_head_kv * d, n_head_kv * self.v_dim)
        self.stride = round_up(sum(self.widths), 16) + 16
        # As buffers have it: whole tiles of rows, and a vector more.
        memory = aligned_zeros(4 * (round_up(self.n, 8) * self.stride + 16)).view(np.float32)
        memory[:] = np.nan
        self.rows = memory[: self.n * self.stride].reshape(self.n, self.stride)
        self.rows[:, : sum(self.widths)] = rng.standard_normal((self.n, sum(self.widths))) * size
        self.memory = memory

    def part(self, i, text):
        """q, k or v of a text: [n_tokens, heads, width]."""
        begin = sum(self.widths[:i])
        rows = self.rows[self.starts[text] : self.starts[text + 1], begin : begin + self.widths[i]]
        return rows.reshape(len(rows), -1, self.v_dim if i == 2 else self.d)

    def expected(self):
        """The twin's rows."""
        slopes = np.zeros(self.n_head) if self.slopes is None else self.slopes
        made = [
            both_ways(*(self.part(i, text) for i in range(3)), self.scale, self.window, slopes)
            for text in range(len(self.lengths))
        ]
        return np.concatenate(made).reshape(self.n, -1)

    def run(self, team, only=None):
        """The op's rows; ``only``: of that text, which the others are NaN for."""
        texts = range(len(self.lengths)) if only is None else [only]
        parts = np.array(
            [
                (self.starts[text], self.lengths[text], first)
                for text in texts
                for first in range(0, self.lengths[text], PART_TOKENS)
            ],
            np.int32,
        )
        memory = self.memory.copy()
        if only is not None:
            memory[: self.starts[only] * self.stride] = np.nan
            memory[self.starts[only + 1] * self.stride :] = np.nan
        width = self.n_head * self.v_dim
        out = np.full((self.n + 1, width + 5), np.nan, np.float32)
        at, bytes_of = memory.ctypes.data, [4 * sum(self.widths[:i]) for i in range(3)]
        n_parts, scale = np.array([len(parts)]), np.array([self.scale], np.float32)
        operands = fill(
            BOTH_WAYS, q=at, k=at + bytes_of[1], v=at + bytes_of[2], q_stride=4 * self.stride,
            k_stride=4 * self.stride, v_stride=4 * self.stride, n_head=self.n_head,
            n_head_kv=self.n_head_kv, head_dim=self.d, v_dim=self.v_dim,
            scale=scale, window=self.window,
            slopes=0 if self.slopes is None else self.slopes, parts=parts, n_parts=n_parts,
            out=out, out_stride=out.strides[0],
        )  # fmt: skip
        address = team.kernels.address("both_ways", build_both_ways)
        step = np.zeros(len(STEP._fields), np.int64)
        program = Program(team, step, [(address, operands, -1)])
        # A thread that lags behind reads them after the run.
        program.kept = memory, parts, n_parts, scale, out, self
        team.run(program)
        mine = np.zeros(out.shape, bool)
        for text in texts:
            mine[self.starts[text] : self.starts[text + 1], :width] = True
        assert np.isnan(out[~mine]).all()
        return out[mine].reshape(-1, width)


def assert_twin(team, texts):
    want = texts.expected()
    np.testing.assert_allclose(texts.run(team), want, rtol=0, atol=3e-6 * np.abs(want).max())


@pytest.mark.parametrize("d", [32, 64, 96, 128])
@pytest.mark.parametrize(("n_head", "n_head_kv"), [(3, 3), (6, 2)])
def test_heads_of_real_sizes_over_texts_of_all_lengths(team_of, d, n_head, n_head_kv):
    assert_twin(team_of("auto", 3), Texts(LENGTHS, n_head, n_head_kv, d))


@pytest.mark.parametrize(("d", "v_dim"), [(16, 16), (24, 40), (20, 12), (80, 96), (256, 256)])
def test_heads_of_other_sizes(team_of, d, v_dim):
    assert_twin(team_of("auto", 2), Texts(SHORT, 4, 2, d, v_dim))


@pytest.mark.parametrize("window", [1, 5, 64, 128, 256, 600])
@pytest.mark.parametrize("leans", [False, True], ids=["plain", "alibi"])
def test_a_window_to_either_side(team_of, window, leans):
    assert_twin(team_of("auto", 2), Texts(LENGTHS, 4, 2, 64, window=window, leans=leans))


@pytest.mark.parametrize("n_head", [4, 5])
def test_what_is_far_away_counts_less(team_of, n_head):
    assert_twin(team_of("auto", 2), Texts(LENGTHS, n_head, 1, 64, leans=True))


def test_scores_that_leave_one_cell_alone(team_of):
    """Of whole numbers, so that they are exact, and hundreds apart: every term but one is zero, in
    its own chunk and in the others."""
    texts = Texts((300, 129, 16), 2, 2, 32, size=8.0, scale=2.0)
    texts.rows[:] = np.rint(texts.rows)
    assert_twin(team_of("auto", 2), texts)


CASES = {
    "heads of 32": {"n_head": 3, "n_head_kv": 3, "d": 32},
    "grouped, windowed": {"n_head": 6, "n_head_kv": 2, "d": 64, "window": 64},
    "alibi": {"n_head": 4, "n_head_kv": 4, "d": 96, "leans": True},
    "odd": {"n_head": 4, "n_head_kv": 2, "d": 20, "v_dim": 12, "window": 5, "leans": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_text_has_its_own_bits_in_any_company(team_of, case):
    """Its neighbours, and whatever is around them, are NaN the second time."""
    order = np.random.default_rng(1).permutation(len(SHORT))
    texts = Texts([SHORT[i] for i in order] + [513], **CASES[case])
    packed = texts.run(team_of("auto", 3))
    for text in range(len(texts.lengths)):
        alone = texts.run(team_of("auto", 1), only=text)
        assert np.array_equal(alone, packed[texts.starts[text] : texts.starts[text + 1]])


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_on_any_number_of_threads(team_of, case):
    texts = Texts(SHORT, **CASES[case])
    one, *others = (texts.run(team_of("auto", n)) for n in (1, 2, 3, 5))
    for other in others:
        assert np.array_equal(one, other)


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_on_every_instruction_set(team_of, case):
    texts = Texts(SHORT, **CASES[case])
    one, *others = (texts.run(team_of(isa, 2)) for isa in usable_isas())
    for other in others:
        assert np.array_equal(one, other)


def test_a_texts_place_among_the_chunks_of_another_does_not_matter(team_of):
    """The same text three times, behind texts of other lengths."""
    texts = Texts((130, 5, 130, 128, 130), 2, 2, 32)
    begin, end = texts.starts[:-1], texts.starts[1:]
    for text in (2, 4):
        texts.rows[begin[text] : end[text]] = texts.rows[: end[0]]
    out = texts.run(team_of("auto", 2))
    for text in (2, 4):
        assert np.array_equal(out[begin[text] : end[text]], out[: end[0]])
