"""Attention of whole texts: each token sees the tokens on both sides of it (Devlin et al. 2018).

A text is in the ubatch from end to end, so its keys and values are rows there and nothing is kept.
Positions are cut into chunks of 128 whose results are folded in ascending order, as causal
attention folds them (attention.py): a row's result depends on its own text and position alone.

    score(i, j) = scale q_i k_j - slope |i - j|        (ALiBi, Press et al. 2021; slope 0: none)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32, store_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Address,
    Op,
    Rows,
    Vector,
    given,
    offsets,
    reads,
    round_up,
    writes,
)
from slotmux.kernels.ops.attention.fold import finish_row, fold_chunk, start_state
from slotmux.kernels.ops.attention.softmax import largest_score, softmax_terms
from slotmux.kernels.ops.attention.tiles import CHUNK, build_scores, build_values

PART_TOKENS = 128
TILE = 8
CELLS = 16
_N_BLOCKS = CHUNK // CELLS
# A thread's scratch, in bytes: addresses of a chunk's blocks of K and V; (m, l) of a tile's rows in
# a chunk and of all rows so far; a tile's scores; 0, 1, 2, ... as float32. Behind them, as wide as
# heads are: a tile's query rows and values, the chunk's K and V, the rows' states.
S_KEYS, S_VALUES = 0, 8 * _N_BLOCKS
S_CHUNK_ML = 16 * _N_BLOCKS
S_STEPS = S_CHUNK_ML + 8 * TILE
S_SCORES = S_STEPS + 4 * CHUNK
S_WIDE = S_SCORES + 4 * CHUNK * TILE


class BothWays(Op, kernel="both_ways"):
    """out = softmax(scale q k - slope |i - j|) v of each token over its text"""

    q: Rows = reads("float32 [n_tokens, n_head * head_dim]")
    k: Rows = reads("float32 [n_tokens, n_head_kv * head_dim]")
    v: Rows = reads("float32 [n_tokens, n_head_kv * v_dim]")
    n_head: int = given("query heads")
    n_head_kv: int = given("KV heads")
    head_dim: int = given("width of a head's q and k")
    v_dim: int = given("width of a head's values")
    scale: float = given("float32")
    window: int = given("how far a token sees to either side; 0: all of its text")
    slopes: Vector | None = given("float32 [n_head]; None: 0")
    parts: Address = given(
        "int32 [n_parts, 3], pieces of texts of up to PART_TOKENS tokens: the text's first row, its"
        " number of tokens, the piece's first token"
    )
    n_parts: Address = given("int64, their number")
    out: Rows = writes("float32 [n_tokens, n_head * v_dim]")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_both_ways()

    def scratch_bytes(self, isa: Isa) -> int:
        """Addresses, scores; a tile's rows, a chunk's K and V, the states of a piece's rows."""
        padded, group = round_up(self.v_dim, 16), self.n_head // self.n_head_kv
        wide = (TILE + CHUNK) * (self.head_dim + padded)
        return S_WIDE + 4 * wide + PART_TOKENS * group * (4 * padded + 8) + 64


BOTH_WAYS = offsets(BothWays)


@njit(forceinline=True)
def _padded(op):
    return (load_i64(op + BOTH_WAYS.v_dim) + 15) // 16 * 16


@njit
def _gather_chunk(op, scratch, first, n_cells, head):
    """K of ``n_cells`` tokens from row ``first`` on as blocks [head_dim][16 cells], V as rows."""
    head_dim, v_dim = load_i64(op + BOTH_WAYS.head_dim), load_i64(op + BOTH_WAYS.v_dim)
    k_stride, v_stride = load_i64(op + BOTH_WAYS.k_stride), load_i64(op + BOTH_WAYS.v_stride)
    padded = _padded(op)
    keys = scratch + S_WIDE + 4 * TILE * (head_dim + padded)
    values = keys + 4 * CHUNK * head_dim
    for i in range(_N_BLOCKS):
        store_i64(scratch + S_KEYS + 8 * i, keys + 4 * CELLS * head_dim * i)
        store_i64(scratch + S_VALUES + 8 * i, values + 4 * CELLS * padded * i)
    for i in range(n_cells):
        k = load_i64(op + BOTH_WAYS.k) + (first + i) * k_stride + 4 * head * head_dim
        to = keys + 4 * (i // CELLS * CELLS * head_dim + i % CELLS)
        for d in range(head_dim):
            store_f32(to + 4 * CELLS * d, load_f32(k + 4 * d))
        v = load_i64(op + BOTH_WAYS.v) + (first + i) * v_stride + 4 * head * v_dim
        at = values + 4 * padded * i
        for d in range(0, padded, 16):
            row = simd.load(v + 4 * d)
            zero = simd.splat(np.float32(0.0))
            simd.store(at + 4 * d, simd.first_lanes(row, v_dim - d, zero))


@njit
def _gather_rows(op, to, row, n_rows, head):
    """Scaled query rows of a head."""
    head_dim, stride = load_i64(op + BOTH_WAYS.head_dim), load_i64(op + BOTH_WAYS.q_stride)
    scale = load_f32(load_i64(op + BOTH_WAYS.scale))
    for r in range(n_rows):
        q = load_i64(op + BOTH_WAYS.q) + (row + r) * stride + 4 * head * head_dim
        for d in range(head_dim):
            store_f32(to + 4 * (r * head_dim + d), load_f32(q + 4 * d) * scale)


@njit
def _lean(scores, n_blocks, steps, apart, slope):
    """scores -= slope * |steps + apart|, of one row."""
    for i in range(n_blocks):
        distance = simd.absolute(simd.load(steps + 64 * i) + simd.splat(apart))
        s = simd.load(scores + 64 * i) - distance * simd.splat(slope)
        simd.store(scores + 64 * i, s)


@njit
def _weigh_rows(op, scratch, pos, n_rows, first, n_cells, n_tokens, head):
    """Scores of a tile's rows (positions pos, pos + 1, ...) to weights of a chunk's cells."""
    window, n_blocks = load_i64(op + BOTH_WAYS.window), (n_cells + CELLS - 1) // CELLS
    slopes = load_i64(op + BOTH_WAYS.slopes)
    for r in range(n_rows):
        row, seen_from, seen_to = scratch + S_SCORES + 4 * CHUNK * r, np.int64(0), n_cells
        if window > 0:
            seen_from = max(np.int64(0), pos + r - window - first)
            seen_to = min(n_cells, pos + r + window + 1 - first)
        if slopes != 0:
            apart = np.float32(first - pos - r)
            _lean(row, n_blocks, scratch + S_STEPS, apart, load_f32(slopes + 4 * head))
        ml = scratch + S_CHUNK_ML + 8 * r
        largest_score(row, seen_from, seen_to, n_blocks, ml)
        softmax_terms(row, seen_from, seen_to, n_blocks, ml, ml + 4)


@njit
def _finish(op, states, first, n_rows, head_kv, group):
    """The rows' states to out."""
    padded, v_dim = _padded(op), load_i64(op + BOTH_WAYS.v_dim)
    for i in range(n_rows * group):
        token, head = first + i % n_rows, head_kv * group + i // n_rows
        out = load_i64(op + BOTH_WAYS.out) + token * load_i64(op + BOTH_WAYS.out_stride)
        state = states + (4 * padded + 8) * i
        finish_row(state, state + 4 * padded + 4, out + 4 * head * v_dim, v_dim)


def build_both_ways() -> Callable[..., None]:
    """The kernel; a chunk is a piece of a text and a KV head."""
    scores_of, values_of = build_scores("f32"), build_values("f32")

    @njit
    def attend_tile(op, scratch, states, first, row, n_rows, cells, n_tokens, head):
        """Rows row .. row + n_rows of a text that begins at row ``first`` over a chunk of its
        cells (cells: first, number), folded into their states."""
        head_dim, padded = load_i64(op + BOTH_WAYS.head_dim), _padded(op)
        q, values = scratch + S_WIDE, scratch + S_WIDE + 4 * TILE * head_dim
        _gather_rows(op, q, first + row, n_rows, head)
        n_blocks = (cells[1] + CELLS - 1) // CELLS
        keys, scores = scratch + S_KEYS, scratch + S_SCORES
        scores_of(n_rows, q, head_dim * 4, head_dim, keys, keys, n_blocks, scores)
        _weigh_rows(op, scratch, row, n_rows, cells[0], cells[1], n_tokens, head)
        at = scratch + S_VALUES
        values_of(n_rows, scores, at, at, padded, cells[1], values)
        for r in range(n_rows):
            state = states + (4 * padded + 8) * r
            ml = scratch + S_CHUNK_ML + 8 * r
            fold_chunk(state, state + 4 * padded, values + 4 * padded * r, ml, padded)

    @njit
    def attend_part(op, scratch, first, n_tokens, row, head):
        """A piece of a text from its token ``row`` on, and the query heads of a KV head."""
        head_dim, padded = load_i64(op + BOTH_WAYS.head_dim), _padded(op)
        group = load_i64(op + BOTH_WAYS.n_head) // load_i64(op + BOTH_WAYS.n_head_kv)
        window, n_rows = load_i64(op + BOTH_WAYS.window), min(PART_TOKENS, n_tokens - row)
        states = scratch + S_WIDE + 4 * (TILE + CHUNK) * (head_dim + padded)
        state_bytes = 4 * padded + 8
        for i in range(n_rows * group):
            state = states + state_bytes * i
            m_at = state + 4 * padded
            start_state(state, m_at, m_at + 4, padded, np.int64(0), np.int64(0))
        begin, end = np.int64(0), n_tokens
        if window > 0:
            begin = max(np.int64(0), row - window)
            end = min(n_tokens, row + n_rows + window)
        for chunk in range(begin // CHUNK, (end + CHUNK - 1) // CHUNK):
            at = chunk * CHUNK
            cells = at, min(np.int64(CHUNK), n_tokens - at)
            _gather_chunk(op, scratch, first + at, cells[1], head)
            for g in range(group):
                for t in range(0, n_rows, TILE):
                    height = min(np.int64(TILE), n_rows - t)
                    attend_tile(op, scratch, states + state_bytes * (g * n_rows + t), first,
                                row + t, height, cells, n_tokens, head * group + g)  # fmt: skip
        _finish(op, states, first + row, n_rows, head, group)

    def both_ways(op, step, thread):  # type: ignore[no-untyped-def]
        n_head_kv = load_i64(op + BOTH_WAYS.n_head_kv)
        n_chunks = load_i64(load_i64(op + BOTH_WAYS.n_parts)) * n_head_kv
        chunk = claim(thread, n_chunks)
        scratch = load_i64(thread + 8 * T_SCRATCH)
        if chunk >= 0:
            for i in range(CHUNK):
                store_f32(scratch + S_STEPS + 4 * i, np.float32(i))
        while chunk >= 0:
            part = load_i64(op + BOTH_WAYS.parts) + 12 * (chunk // n_head_kv)
            first, n_tokens = load_i32(part), load_i32(part + 4)
            attend_part(op, scratch, first, n_tokens, load_i32(part + 8), chunk % n_head_kv)
            chunk = claim(thread, n_chunks)

    return both_ways
