"""Attention over blocks against softmax attention in float64: windows, splits, cell types."""

import numpy as np
import pytest

from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.attention.attention import ATTENTION, build_attention
from slotmux.kernels.ops.attention.fold import FOLD, build_attention_fold
from slotmux.kernels.ops.attention.plan import PLAN, build_attention_plan
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.conftest import usable_isas

CELLS, MAX_BLOCKS, N_BLOCKS = 16, 64, 160
N_GUARD = 64  # rows behind the partial results that nobody may write
DTYPES = {"f16": np.float16, "f32": np.float32}


class Side:
    """K or V of a pool of blocks, one type of cell; what no token has written is NaN.

    ``transposed``: 16 cells stand side by side for each dimension, as K has them."""

    def __init__(self, cell_type, n_head_kv, d, transposed):
        self.d, self.transposed, self.cell_type = d, transposed, cell_type
        width = d if transposed else -(-d // 16) * 16
        shape = (width, CELLS) if transposed else (CELLS, width)
        if cell_type == "i16":
            self.memory = np.zeros((N_BLOCKS, n_head_kv, CELLS * (2 * width + 4)), np.uint8)
            n_bytes = 2 * CELLS * width
            pairs = (width // 2, CELLS, 2) if transposed else (CELLS // 2, width, 2)
            codes = self.memory[..., :n_bytes].view(np.int16)
            self.codes = codes.reshape(N_BLOCKS, n_head_kv, *pairs)
            self.scales = self.memory[..., n_bytes:].view(np.float32)
            self.scales[:] = np.nan
        elif cell_type == "q8_0":
            self.memory = np.zeros((N_BLOCKS, n_head_kv, CELLS * (width + width // 16)), np.uint8)
            n_codes = CELLS * width
            self.codes = (
                self.memory[..., :n_codes].view(np.int8).reshape(N_BLOCKS, n_head_kv, *shape)
            )
            groups = (width // 32, CELLS) if transposed else (CELLS, width // 32)
            scales = self.memory[..., n_codes:].view(np.float16)
            self.scales = scales.reshape(N_BLOCKS, n_head_kv, *groups)
            self.scales[:] = np.nan
        else:
            self.memory = np.full((N_BLOCKS, n_head_kv, *shape), np.nan, DTYPES[cell_type])

    def put(self, block, cell, rows):
        """Write a token's rows [n_head_kv, d]; returns what is then in the cells, as float64."""
        if self.cell_type == "i16":
            return self.put_words(block, cell, rows)
        if self.cell_type != "q8_0":
            rows = rows.astype(self.memory.dtype)
            if self.transposed:
                self.memory[block, :, :, cell] = rows
            else:
                self.memory[block, :, cell] = 0.0
                self.memory[block, :, cell, : self.d] = rows
            return rows.astype(np.float64)
        groups = rows.reshape(len(rows), -1, 32)
        scales = (np.abs(groups).max(axis=2) / 127).astype(np.float16)
        codes = np.rint(groups / scales[..., None].astype(np.float64)).astype(np.int8)
        codes = codes.clip(-127, 127)
        place = (
            (block, slice(None), slice(None), cell)
            if self.transposed
            else (block, slice(None), cell)
        )
        self.codes[place] = codes.reshape(len(rows), -1)
        self.scales[place] = scales
        return (codes * scales[..., None].astype(np.float64)).reshape(rows.shape)

    def put_words(self, block, cell, rows):
        """The same as 16-bit codes: of K with a norm of 32,000, of V below 16,384."""
        if self.transposed:
            scales = np.sqrt((rows**2).sum(axis=1)) / 32000
        else:
            scales = np.abs(rows).max(axis=1) / 16383
        scales = scales.astype(np.float32)
        codes = np.rint(rows / scales[:, None]).astype(np.int16)
        if self.transposed:
            self.codes[block, :, :, cell] = codes.reshape(len(rows), -1, 2)
        else:
            self.codes[block, :, cell // 2, :, cell % 2] = 0
            self.codes[block, :, cell // 2, : self.d, cell % 2] = codes
        self.scales[block, :, cell] = scales
        return codes * scales[:, None].astype(np.float64)


class Case:
    """Sequences of (tokens before the ubatch, tokens in it) over shuffled blocks."""

    def __init__(
        self, lengths, n_head, n_head_kv, d, window, cell_types, capacity, softcap=0.0, sinks=False
    ):
        rng = np.random.default_rng(len(lengths) + d)
        self.lengths, self.window, self.d = lengths, window, d
        self.softcap = np.array([softcap], np.float32)
        self.sinks = (2 * rng.standard_normal(n_head)).astype(np.float32) if sinks else None
        self.n_head, self.n_head_kv = n_head, n_head_kv
        padded = -(-self.v_dim // 16) * 16
        k_cells, v_cells = self.sides(cell_types)
        self.k_cells, self.v_cells = k_cells.memory, v_cells.memory
        self.tables = np.zeros((len(lengths), MAX_BLOCKS), np.int32)
        free = rng.permutation(N_BLOCKS)
        self.kv, n_used = [], 0
        for seq, (before, n) in enumerate(lengths):
            n_blocks = -(-(before + n) // CELLS)
            self.tables[seq, :n_blocks] = free[n_used : n_used + n_blocks]
            n_used += n_blocks
            # Dimensions of unlike size: a scale that is not their own shows.
            size = np.exp(rng.standard_normal((2, n_head_kv, d)))
            k, v = rng.standard_normal((2, before + n, n_head_kv, d)) * size[:, None]
            for pos in range(before + n):
                block, cell = self.tables[seq, pos // CELLS], pos % CELLS
                k[pos] = k_cells.put(block, cell, k[pos])
                v[pos] = v_cells.put(block, cell, v[pos])
            self.kv.append((k, v))
        self.positions = np.concatenate([np.arange(b, b + n) for b, n in lengths]).astype(np.int32)
        self.starts = np.cumsum([0, *(n for _, n in lengths)]).astype(np.int32)
        self.slots = np.arange(len(lengths), dtype=np.int32)
        n_tokens = int(self.starts[-1])
        self.q = (rng.standard_normal((n_tokens, n_head * d)) / np.sqrt(d)).astype(np.float32)
        self.out = np.zeros((n_tokens + 8, n_head * self.v_dim), np.float32)
        self.capacity, self.cell_types, self.padded = capacity, cell_types, padded
        self.ratio, self.choice = 0, np.zeros((n_tokens, 0), np.uint8)

    def sides(self, cell_types):
        """K's and V's memory."""
        return [
            Side(kind, self.n_head_kv, self.d, is_k)
            for kind, is_k in zip(cell_types, (True, False), strict=True)
        ]

    @property
    def v_dim(self):
        """Dimensions of a head's values."""
        return self.d

    def run(self, team):
        """The three ops on a team; returns the rows."""
        step = np.zeros(len(STEP._fields), np.int64)
        words = {
            "n_tokens": self.starts[-1], "n_seqs": len(self.lengths), "max_blocks": MAX_BLOCKS,
            "positions": self.positions.ctypes.data, "seq_start": self.starts.ctypes.data,
            "seq_slot": self.slots.ctypes.data, "block_tables": self.tables.ctypes.data,
        }  # fmt: skip
        for name, value in words.items():
            step[getattr(STEP, name) // 8] = value
        n_floats = (self.capacity + N_GUARD) * (self.padded + 16)
        counts, split = np.zeros(len(self.lengths) + 1, np.int64), aligned_zeros(256)
        partials, stride = aligned_zeros(4 * n_floats), 4 * self.n_head * self.d
        out_stride = 4 * self.n_head * self.v_dim
        partials.view(np.float32)[:] = np.nan
        shared = {"n_head": self.n_head, "v_dim": self.v_dim, "window": self.window,
                  "split_base": split, "partials": partials,
                  "sinks": 0 if self.sinks is None else self.sinks}  # fmt: skip
        plan = fill(PLAN, counts=counts, split_base=split, split_capacity=self.capacity,
                    group=self.n_head // self.n_head_kv, n_head_kv=self.n_head_kv,
                    window=self.window)  # fmt: skip
        attend = fill(ATTENTION, q=self.q, q_stride=stride, k_cells=self.k_cells,
                      v_cells=self.v_cells, n_head_kv=self.n_head_kv, head_dim=self.d,
                      softcap=self.softcap, counts=counts, out=self.out, out_stride=out_stride,
                      ratio=self.ratio, chosen=self.choice if self.ratio else 0,
                      choice_bytes=self.choice.shape[1], **shared)  # fmt: skip
        fold = fill(FOLD, x=self.out, x_stride=out_stride, gate=0, gate_stride=0,
                    gate_head_stride=0, tiles=0, **shared)  # fmt: skip
        k_type, v_type = self.cell_types
        address = team.kernels.address
        program = Program(team, step, [
            (address("attention_plan", build_attention_plan), plan, -1),
            (address(f"attention.{k_type}.{v_type}{'.chosen' if self.ratio else ''}",
                     lambda: build_attention(team.kernels.cpu.isa, k_type, v_type,
                                             has_choice=self.ratio > 0)), attend, 0),
            (address("attention_fold", build_attention_fold), fold, 1),
        ])  # fmt: skip
        team.run(program)
        program.kept = (counts, split, partials, self)
        assert np.isnan(partials.view(np.float32)[self.capacity * (self.padded + 16) :]).all()
        self.n_split = int((split.view(np.int64)[: len(self.lengths)] >= 0).sum())
        return self.out[: self.starts[-1]].copy()

    def sees(self, seq, i, first, pos):
        """Which positions from ``first`` to ``pos`` token i of a sequence attends to."""
        return np.ones(pos + 1 - first, bool)

    def expected(self):
        """softmax(q k^T) v, each head by itself."""
        rows = []
        for seq, (before, n) in enumerate(self.lengths):
            k, v = self.kv[seq]
            for i in range(n):
                pos = before + i
                first = max(0, pos - self.window + 1) if self.window else 0
                if self.window < 0:  # since its chunk began
                    first = pos // -self.window * -self.window
                q = self.q[self.starts[seq] + i].reshape(self.n_head, self.d).astype(np.float64)
                for head in range(self.n_head):
                    g = head // (self.n_head // self.n_head_kv)
                    scores = k[first : pos + 1, g] @ q[head]
                    if self.softcap[0]:
                        scores = self.softcap[0] * np.tanh(scores / self.softcap[0])
                    scores = np.where(self.sees(seq, i, first, pos), scores, -np.inf)
                    seen = scores if self.sinks is None else np.append(scores, self.sinks[head])
                    p, top = np.exp(scores - seen.max()), seen.max()
                    rows.append(p @ v[first : pos + 1, g, : self.v_dim] / np.exp(seen - top).sum())
        return np.array(rows).reshape(-1, self.n_head * self.v_dim)


LENGTHS = [(0, 37), (300, 1), (130, 5), (127, 2), (0, 1), (500, 40)]


TYPES = ("f32", "f16", "q8_0", "i16")
PAIRS = [(k, v) for k in TYPES for v in TYPES]


def assert_twin(team, case):
    """What is in the cells is exact; the rest is float32's rounding, or that of queries and weights
    to 16 bits."""
    want, rounding = case.expected(), 3e-4 if "i16" in case.cell_types else 2e-5
    np.testing.assert_allclose(case.run(team), want, rtol=0, atol=rounding * np.abs(want).max())


@pytest.mark.parametrize("cell_types", [("f32", "f32"), ("f16", "f16"), ("i16", "i16")])
@pytest.mark.parametrize(("n_head", "n_head_kv", "d"), [(6, 2, 64), (4, 1, 24), (3, 3, 80)])
@pytest.mark.parametrize("window", [0, 100, -100])
def test_attention_equals_its_twin(team_of, cell_types, n_head, n_head_kv, d, window):
    assert_twin(team_of("auto", 3), Case(LENGTHS, n_head, n_head_kv, d, window, cell_types, 102))


@pytest.mark.parametrize("window", [0, 100])
def test_scores_are_capped_before_the_softmax(team_of, window):
    """Most scores are far above the cap: without it, another result."""
    case = Case(LENGTHS, 6, 2, 64, window, ("f32", "f32"), 102, softcap=0.7)
    assert_twin(team_of("auto", 3), case)


@pytest.mark.parametrize("capacity", [102, 0])
@pytest.mark.parametrize("window", [0, 100])
def test_a_sink_takes_its_share_of_a_heads_softmax(team_of, window, capacity):
    """Folded from parts and not: to the same bits."""
    cases = [
        Case(LENGTHS, 6, 2, 64, window, ("f16", "f16"), n, sinks=True) for n in (capacity, 102)
    ]
    assert_twin(team_of("auto", 3), cases[0])
    one, other = (case.run(team_of("auto", 2)) for case in cases)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("cell_types", PAIRS)
@pytest.mark.parametrize("d", [32, 64, 96, 128, 256, 512])
def test_every_pair_of_cell_types_at_every_width(team_of, cell_types, d):
    """One query row of a head, a few (3, 5, 6) and whole tiles; folded from parts and not."""
    lengths = [(300, 1), (130, 2), (40, 5), (0, 40), (9, 1)]
    for n_head, capacity in ((1, 16), (3, 0)):
        assert_twin(team_of("auto", 2), Case(lengths, n_head, 1, d, 0, cell_types, capacity))


@pytest.mark.parametrize("cell_type", ["f16", "i16"])
@pytest.mark.parametrize("window", [0, 100, -100])
def test_the_same_bits_split_or_not_and_on_any_number_of_threads(team_of, window, cell_type):
    """The three sequences that may be split have 3, 2 and 2 chunks of 1, 5 and 2 tokens: 18, 60
    and 24 rows of partial results for 6 heads. Where there is no room, a thread folds whole rows.
    """
    runs = []
    for capacity, n_threads, n_split in (
        (102, 1, 3),
        (101, 3, 2),
        (42, 3, 2),
        (18, 2, 1),
        (0, 1, 0),
    ):
        case = Case(LENGTHS, 6, 2, 64, window, (cell_type, cell_type), capacity)
        runs.append(case.run(team_of("auto", n_threads)))
        assert case.n_split == n_split or window
    for other in runs[1:]:
        assert np.array_equal(runs[0], other)


def test_the_same_bits_of_words_on_every_instruction_set(team_of):
    """Split and not, few rows and many. (Of other cells only products of floats: make test-isa.)"""
    runs = []
    for isa in usable_isas():
        case = Case(LENGTHS, 6, 2, 64, 0, ("i16", "i16"), 102)
        runs.append(case.run(team_of(isa, 2)))
    for other in runs[1:]:
        assert np.array_equal(runs[0], other)


@pytest.mark.parametrize("d", [2, 64, 512])
def test_words_do_not_overflow(team_of, d):
    """The largest sums of 16-bit codes: a query and keys of one direction, in one dimension or in
    all; values that are all the same."""
    for peaks in (1, d):
        case = Case([(200, 20)], 3, 1, d, 0, ("i16", "i16"), 0)
        row = np.where(np.arange(d) < peaks, 1.0, 0.0)
        k_cells, v_cells = case.sides(("i16", "i16"))
        k, v = (np.zeros_like(side) for side in case.kv[0])
        for pos in range(220):
            block, cell = case.tables[0, pos // CELLS], pos % CELLS
            k[pos] = k_cells.put(block, cell, row[None] * (1 + pos % 3))
            v[pos] = v_cells.put(block, cell, -np.ones((1, d)))
        case.k_cells, case.v_cells = k_cells.memory, v_cells.memory
        case.kv, case.q = [(k, v)], np.tile(row.astype(np.float32), (20, 3))
        assert_twin(team_of("auto", 2), case)
