"""Attention over blocks against softmax attention in float64: windows, splits, cell types."""

import numpy as np
import pytest

from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.attention.attention import ATTENTION, build_attention
from slotmux.kernels.ops.attention.fold import FOLD, build_attention_fold
from slotmux.kernels.ops.attention.plan import PLAN, build_attention_plan
from slotmux.kernels.team import Program, aligned_zeros

CELLS, MAX_BLOCKS, N_BLOCKS = 16, 64, 160
DTYPES = {"f16": np.float16, "f32": np.float32}
TOLERANCE = {"f16": 2e-3, "f32": 2e-5}


class Case:
    """Sequences of (tokens before the ubatch, tokens in it) over shuffled blocks; cells that no
    token has written are NaN."""

    def __init__(self, lengths, n_head, n_head_kv, d, window, cell_type, capacity):
        rng = np.random.default_rng(len(lengths) + d)
        self.lengths, self.window, self.d = lengths, window, d
        self.n_head, self.n_head_kv = n_head, n_head_kv
        dtype, padded = DTYPES[cell_type], -(-d // 16) * 16
        self.k_cells = np.full((N_BLOCKS, n_head_kv, d, CELLS), np.nan, dtype)
        self.v_cells = np.full((N_BLOCKS, n_head_kv, CELLS, padded), np.nan, dtype)
        self.tables = np.zeros((len(lengths), MAX_BLOCKS), np.int32)
        free = rng.permutation(N_BLOCKS)
        self.kv, n_used = [], 0
        for seq, (before, n) in enumerate(lengths):
            n_blocks = -(-(before + n) // CELLS)
            self.tables[seq, :n_blocks] = free[n_used : n_used + n_blocks]
            n_used += n_blocks
            k = rng.standard_normal((before + n, n_head_kv, d)).astype(dtype)
            v = rng.standard_normal((before + n, n_head_kv, d)).astype(dtype)
            for pos in range(before + n):
                block, cell = self.tables[seq, pos // CELLS], pos % CELLS
                self.k_cells[block, :, :, cell] = k[pos]
                self.v_cells[block, :, cell] = 0.0
                self.v_cells[block, :, cell, :d] = v[pos]
            self.kv.append((k.astype(np.float64), v.astype(np.float64)))
        self.positions = np.concatenate([np.arange(b, b + n) for b, n in lengths]).astype(np.int32)
        self.starts = np.cumsum([0, *(n for _, n in lengths)]).astype(np.int32)
        self.slots = np.arange(len(lengths), dtype=np.int32)
        n_tokens = int(self.starts[-1])
        self.q = (rng.standard_normal((n_tokens, n_head * d)) / np.sqrt(d)).astype(np.float32)
        self.out = np.zeros((n_tokens + 8, n_head * d), np.float32)
        self.capacity, self.cell_type, self.padded = capacity, cell_type, padded

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
        max_chunks = MAX_BLOCKS * CELLS // 128
        n_floats = max(self.capacity, 1) * self.n_head * max_chunks * (self.padded + 16)
        counts, split = np.zeros(len(self.lengths) + 1, np.int64), aligned_zeros(256)
        partials, stride = aligned_zeros(4 * n_floats), 4 * self.n_head * self.d
        partials.view(np.float32)[:] = np.nan
        shared = {"n_head": self.n_head, "v_dim": self.d, "window": self.window,
                  "split_base": split, "partials": partials, "max_chunks": max_chunks}  # fmt: skip
        plan = fill(PLAN, counts=counts, split_base=split, split_capacity=self.capacity,
                    group=self.n_head // self.n_head_kv, n_head_kv=self.n_head_kv,
                    window=self.window)  # fmt: skip
        attend = fill(ATTENTION, q=self.q, stride=stride, k_cells=self.k_cells,
                      v_cells=self.v_cells, n_head_kv=self.n_head_kv, head_dim=self.d,
                      counts=counts, out=self.out, out_stride=stride, **shared)  # fmt: skip
        fold = fill(FOLD, x=self.out, x_stride=stride, gate=0, gate_stride=0,
                    gate_head_stride=0, tiles=0, **shared)  # fmt: skip
        kind = self.cell_type
        address = team.kernels.address
        program = Program(team, step, [
            (address("attention_plan", build_attention_plan), plan, -1),
            (address(f"attention.{kind}.{kind}", lambda: build_attention(kind, kind)), attend, 0),
            (address("attention_fold", build_attention_fold), fold, 1),
        ])  # fmt: skip
        team.run(program)
        program.kept = (counts, split, partials, self)
        return self.out[: self.starts[-1]].copy()

    def expected(self):
        """softmax(q k^T) v, each head by itself."""
        rows = []
        for seq, (before, n) in enumerate(self.lengths):
            k, v = self.kv[seq]
            for i in range(n):
                pos = before + i
                first = max(0, pos - self.window + 1) if self.window else 0
                q = self.q[self.starts[seq] + i].reshape(self.n_head, self.d).astype(np.float64)
                for head in range(self.n_head):
                    g = head // (self.n_head // self.n_head_kv)
                    scores = k[first : pos + 1, g] @ q[head]
                    p = np.exp(scores - scores.max())
                    rows.append(p @ v[first : pos + 1, g] / p.sum())
        return np.array(rows).reshape(-1, self.n_head * self.d)


LENGTHS = [(0, 37), (300, 1), (130, 5), (127, 2), (0, 1), (500, 40)]


@pytest.mark.parametrize("cell_type", ["f32", "f16"])
@pytest.mark.parametrize(("n_head", "n_head_kv", "d"), [(6, 2, 64), (4, 1, 24), (3, 3, 80)])
@pytest.mark.parametrize("window", [0, 100])
def test_attention_equals_its_twin(team_of, cell_type, n_head, n_head_kv, d, window):
    case = Case(LENGTHS, n_head, n_head_kv, d, window, cell_type, 16)
    np.testing.assert_allclose(
        case.run(team_of("auto", 3)), case.expected(), rtol=0, atol=TOLERANCE[cell_type]
    )


@pytest.mark.parametrize("window", [0, 100])
def test_the_same_bits_split_or_not_and_on_any_number_of_threads(team_of, window):
    """Capacity 0 splits nothing: every row is folded by one thread."""
    runs = [
        Case(LENGTHS, 6, 2, 64, window, "f16", capacity).run(team_of("auto", n_threads))
        for capacity, n_threads in ((16, 1), (16, 3), (0, 1), (3, 3))
    ]
    for other in runs[1:]:
        assert np.array_equal(runs[0], other)
