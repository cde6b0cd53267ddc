"""Causal attention of each token over its sequence's cells (flash-decoding, Dao et al. 2023).

Positions are cut into fixed chunks of 128. For a query row and a chunk: scores, their maximum m,
p = exp(score - m), l = sum p, acc = sum p v; chunks are folded in ascending order:

    M' = max(M, m)   L' = L e^(M-M') + l e^(m-M')   A' = A e^(M-M') + acc e^(m-M')   out = A / L

A head with a sink s (Xiao et al. 2023) begins with M = s, L = 1, A = 0.

The same operations run whether one thread takes all chunks of a row (prompts) or chunks are
spread over threads and folded afterwards (single tokens on a long context), and a masked position
adds exactly zero: a row's result depends on its own sequence and position alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32, store_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Cells,
    Op,
    Rows,
    Table,
    Vector,
    given,
    offsets,
    reads,
    round_up,
    writes,
)
from slotmux.kernels.ops.attention.cells import CELLS, LATENT, build_head_bytes
from slotmux.kernels.ops.attention.fold import LOW, finish_row, fold_chunk, start_state
from slotmux.kernels.ops.attention.latent_tiles import build_latent_scores, build_latent_values
from slotmux.kernels.ops.attention.plan import (
    GROUP_TILES,
    TILE,
    block_table,
    chunks_seen,
    first_pos,
    partial_row,
    seq_tokens,
)
from slotmux.kernels.ops.attention.tiles import CHUNK, build_scores, build_values
from slotmux.kernels.ops.dense.elementwise import tanh

CHUNK_BLOCKS = CHUNK // CELLS
# A thread's scratch, in bytes: addresses of a chunk's blocks; of each row its state's (m, l), and
# its position; (m, l) of a tile's rows in a chunk; a tile's scores. Behind them, as wide as heads
# are: query rows, a tile's values of a chunk, the rows' states.
ROWS = TILE * GROUP_TILES
S_KEYS, S_VALUES, S_LATER = (8 * CHUNK_BLOCKS * i for i in range(3))
S_ML = 8 * CHUNK_BLOCKS * 4
S_POS, S_CHUNK_ML = S_ML + 8 * ROWS, S_ML + 16 * ROWS
S_SCORES = S_ML + 32 * ROWS
S_Q = S_SCORES + 4 * CHUNK * TILE


class Attention(Op, kernel="attention"):
    """out = softmax(q k^T) v of every token over its sequence's cells; of split sequences only
    ``partials``"""

    q: Rows = reads("float32 [n_tokens, n_head * head_dim], scaled")
    cells: Cells = reads("the layer's; their types are compiled in")
    counts: Table[np.int64] = reads("see AttentionPlan")
    split_base: Table[np.int64] = reads("see AttentionPlan")
    n_head: int = given("query heads")
    n_head_kv: int = given("KV heads")
    head_dim: int = given("width of a head's q and k")
    v_dim: int = given("width of a head's values")
    window: int = given("positions that a token sees; 0: all; below 0: see first_pos")
    softcap: float = given("float32 c, scores become c tanh(score / c); 0: they stay", default=0.0)
    sinks: Vector | None = given("float32 [n_head], scores without a value; None", default=None)
    partials: Table[np.float32] = writes(
        "[token][n_head][chunk seen][v_dim rounded up to 16, + 16]; the last 16: m, l"
    )
    out: Rows = writes("float32 [n_tokens, n_head * v_dim]")

    @property
    def variant(self) -> tuple[str, str]:
        return self.cells.k_type, self.cells.v_type

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_attention(*self.variant)

    def scratch_bytes(self, isa: Isa) -> int:
        """Query rows, a tile's values and the rows' states, behind what has a fixed size."""
        return S_Q + 4 * ROWS * self.head_dim + 4 * (TILE + ROWS) * round_up(self.v_dim, 16)


ATTENTION = offsets(Attention)


@njit(forceinline=True)
def _chunk_at(op, scratch):
    """Where a tile's values of a chunk are, behind the query rows."""
    return scratch + S_Q + 4 * ROWS * load_i64(op + ATTENTION.head_dim)


@njit(forceinline=True)
def _states_at(op, scratch):
    """Where the rows' states are, behind a tile's values."""
    width = (load_i64(op + ATTENTION.v_dim) + 15) // 16 * 16
    return _chunk_at(op, scratch) + 4 * TILE * width


@njit
def softmax_row(scores, first, n_blocks, pos, window, ml):
    """Scores of a row (positions first, first + 1, ...) to terms e^(s - m); m and l to ml."""
    seen_from = first_pos(pos, window) - first
    seen_to = pos + 1 - first
    low = simd.splat(LOW)
    largest = low
    for i in range(n_blocks):
        s = simd.load(scores + 64 * i)
        if 16 * i + 16 > seen_to:
            s = simd.first_lanes(s, seen_to - 16 * i, low)
        if 16 * i < seen_from:
            s = simd.first_lanes(low, seen_from - 16 * i, s)
        simd.store(scores + 64 * i, s)
        largest = simd.maximum(largest, s)
    m = max(simd.max_lanes(largest), LOW)
    total = simd.splat(np.float32(0.0))
    zero = simd.splat(np.float32(0.0))
    for i in range(n_blocks):
        p = simd.exp(simd.load(scores + 64 * i) - simd.splat(m))
        # Masked positions are exactly zero also where every position is masked (m = LOW).
        if 16 * i + 16 > seen_to:
            p = simd.first_lanes(p, seen_to - 16 * i, zero)
        if 16 * i < seen_from:
            p = simd.first_lanes(zero, seen_from - 16 * i, p)
        simd.store(scores + 64 * i, p)
        total = total + p
    store_f32(ml, m)
    store_f32(ml + 4, simd.sum_lanes(total))


@njit
def cap_scores(scores, n_rows, n, cap):
    """cap * tanh(s / cap) of the first n scores of each row, in place."""
    c = simd.splat(cap)
    for r in range(n_rows):
        for i in range(0, n, 16):
            at = scores + 4 * (CHUNK * r + i)
            simd.store(at, c * tanh(simd.load(at) / c))


def _build_chunk(k_type: str, v_type: str) -> Any:
    """Scores, softmax terms and weighted values of one tile of rows over one chunk."""
    scores_of, values_of = build_scores(k_type), build_values(v_type)
    k_bytes_of, v_bytes_of = build_head_bytes(k_type), build_head_bytes(v_type)

    @njit
    def attend_chunk(
        op, scratch, tile, n_rows, table, head, to_next, chunk, last_pos, row_pos, out, ml
    ):
        """One tile over one chunk: values to out (rows of v_padded floats), (m, l) to ml.

        row_pos: int64 address of the rows' positions; last_pos: the sequence's last position
        whose cell is written; to_next: how many heads on the one is whose K is asked for ahead."""
        head_dim, v_dim = load_i64(op + ATTENTION.head_dim), load_i64(op + ATTENTION.v_dim)
        n_head_kv, v_padded = load_i64(op + ATTENTION.n_head_kv), (v_dim + 15) // 16 * 16
        first = chunk * CHUNK
        n_cells = min(np.int64(CHUNK), last_pos + 1 - first)
        n_blocks = (n_cells + CELLS - 1) // CELLS
        k_bytes, v_bytes = k_bytes_of(head_dim), v_bytes_of(v_padded)
        scores, keys = scratch + S_SCORES, scratch + S_KEYS
        values, later = scratch + S_VALUES, scratch + S_LATER
        q = scratch + S_Q + tile * TILE * head_dim * 4
        for i in range(n_blocks):
            block = load_i32(table + 4 * (chunk * CHUNK_BLOCKS + i)) * n_head_kv + head
            store_i64(keys + 8 * i, load_i64(op + ATTENTION.k_cells) + block * k_bytes)
            store_i64(values + 8 * i, load_i64(op + ATTENTION.v_cells) + block * v_bytes)
            store_i64(later + 8 * i, load_i64(keys + 8 * i) + to_next * k_bytes)
        scores_of(n_rows, q, head_dim * 4, head_dim, keys, values, n_blocks, scores)
        softmax_rows(op, scores, n_rows, first, n_blocks, row_pos, ml)
        values_of(n_rows, scores, values, later, v_padded, n_cells, out)

    return attend_chunk


@njit
def softmax_rows(op, scores, n_rows, first, n_blocks, row_pos, ml):
    """``softmax_row`` of a tile's rows, capped before it if the op says so."""
    cap = load_f32(load_i64(op + ATTENTION.softcap))
    if cap > 0.0:
        cap_scores(scores, n_rows, 16 * n_blocks, cap)
    window = load_i64(op + ATTENTION.window)
    for r in range(n_rows):
        pos = load_i64(row_pos + 8 * r)
        softmax_row(scores + 4 * CHUNK * r, first, n_blocks, pos, window, ml + 8 * r)


def _build_latent_chunk(cell_type: str) -> Any:
    """The same of latent cells (latent.py): one KV head of ``head_dim`` floats, of which the first
    are its values; ``k_cells`` holds both."""
    scores_of, values_of = build_latent_scores(cell_type), build_latent_values(cell_type)
    bytes_of = build_head_bytes(cell_type)

    @njit
    def attend_chunk(
        op, scratch, tile, n_rows, table, head, to_next, chunk, last_pos, row_pos, out, ml
    ):
        width, v_dim = load_i64(op + ATTENTION.head_dim), load_i64(op + ATTENTION.v_dim)
        first = chunk * CHUNK
        n_cells = min(np.int64(CHUNK), last_pos + 1 - first)
        n_blocks = (n_cells + CELLS - 1) // CELLS
        scores, blocks = scratch + S_SCORES, scratch + S_KEYS
        q = scratch + S_Q + tile * TILE * width * 4
        for i in range(n_blocks):
            block = load_i32(table + 4 * (chunk * CHUNK_BLOCKS + i))
            store_i64(blocks + 8 * i, load_i64(op + ATTENTION.k_cells) + block * bytes_of(width))
        scores_of(n_rows, q, width * 4, width, blocks, n_blocks, scores)
        softmax_rows(op, scores, n_rows, first, n_blocks, row_pos, ml)
        values_of(n_rows, scores, blocks, width, (v_dim + 15) // 16 * 16, n_cells, out)

    return attend_chunk


@njit
def _gather_rows(op, step, scratch, first_token, first_row, n_rows, group, head):
    """Copy n_rows query rows of a KV head's group into scratch, and their positions."""
    head_dim, stride = load_i64(op + ATTENTION.head_dim), load_i64(op + ATTENTION.q_stride)
    row_pos = scratch + S_POS
    for r in range(n_rows):
        row = first_row + r
        token = first_token + row // group
        q = load_i64(op + ATTENTION.q) + token * stride
        q += (head * group + row % group) * head_dim * 4
        to = scratch + S_Q + r * head_dim * 4
        for d in range(0, head_dim - 15, 16):
            simd.store(to + 4 * d, simd.load(q + 4 * d))
        for d in range(head_dim // 16 * 16, head_dim):
            store_f32(to + 4 * d, load_f32(q + 4 * d))
        pos = load_i32(load_i64(step + STEP.positions) + 4 * token)
        store_i64(row_pos + 8 * r, pos)
    return row_pos


def build_attention(k_type: str, v_type: str) -> Callable[..., None]:
    """The kernel for one pair of cell types; work items as counted by the plan."""
    chunk = _build_latent_chunk(k_type) if v_type == LATENT else _build_chunk(k_type, v_type)
    return _build_attention(chunk)


def _build_attention(attend_chunk: Any) -> Callable[..., None]:
    """``attend_chunk``: what one of the functions above made."""

    @njit
    def whole_rows(op, step, scratch, seq, item, group, head):
        """Up to 32 rows over all their chunks, straight to out."""
        first, n_tokens = seq_tokens(step, seq)
        n_rows = min(np.int64(TILE * GROUP_TILES), n_tokens * group - item * TILE * GROUP_TILES)
        first_row = item * TILE * GROUP_TILES
        row_pos = _gather_rows(op, step, scratch, first, first_row, n_rows, group, head)
        v_dim = load_i64(op + ATTENTION.v_dim)
        width = (v_dim + 15) // 16 * 16
        values, states = _chunk_at(op, scratch), _states_at(op, scratch)
        for r in range(n_rows):
            at, of_head = states + 4 * width * r, head * group + (first_row + r) % group
            start_state(at, scratch + S_ML + 8 * r, width, load_i64(op + ATTENTION.sinks), of_head)
        table = block_table(step, seq)
        last = load_i64(row_pos + 8 * (n_rows - 1))
        from_pos = first_pos(load_i64(row_pos), load_i64(op + ATTENTION.window))
        for chunk in range(from_pos // CHUNK, last // CHUNK + 1):
            for t in range((n_rows + TILE - 1) // TILE):
                height = min(np.int64(TILE), n_rows - t * TILE)
                at, ml = row_pos + 8 * TILE * t, scratch + S_CHUNK_ML
                attend_chunk(op, scratch, t, height, table, head, 0, chunk, last, at, values, ml)
                for r in range(height):
                    row = t * TILE + r
                    fold_chunk(states + 4 * width * row, scratch + S_ML + 8 * row,
                               values + 4 * width * r, ml + 8 * r, width)  # fmt: skip
        out_stride = load_i64(op + ATTENTION.out_stride)
        for r in range(n_rows):
            row = first_row + r
            to = load_i64(op + ATTENTION.out) + (first + row // group) * out_stride
            to += (head * group + row % group) * v_dim * 4
            finish_row(states + 4 * width * r, scratch + S_ML + 8 * r, to, v_dim)

    @njit
    def one_chunk(op, step, scratch, seq, item, group, head):
        """A tile of rows over one chunk, to partials."""
        first, n_tokens = seq_tokens(step, seq)
        n_tiles = (n_tokens * group + TILE - 1) // TILE
        first_row = item % n_tiles * TILE
        n_rows = min(np.int64(TILE), n_tokens * group - first_row)
        row_pos = _gather_rows(op, step, scratch, first, first_row, n_rows, group, head)
        from_chunk, n_chunks = chunks_seen(step, seq, load_i64(op + ATTENTION.window))
        chunk = from_chunk + item // n_tiles
        last = load_i64(row_pos + 8 * (n_rows - 1))
        if chunk * CHUNK > last:
            return
        v_padded = (load_i64(op + ATTENTION.v_dim) + 15) // 16 * 16
        values, ml = _chunk_at(op, scratch), scratch + S_CHUNK_ML
        attend_chunk(op, scratch, 0, n_rows, block_table(step, seq), head, 1, chunk, last, row_pos,
                     values, ml)  # fmt: skip
        base = load_i64(load_i64(op + ATTENTION.split_base) + 8 * seq)
        for r in range(n_rows):
            row = first_row + r
            place = row // group * load_i64(op + ATTENTION.n_head) + head * group + row % group
            at = partial_row(base, place, n_chunks, chunk - from_chunk)
            to = load_i64(op + ATTENTION.partials) + at * (v_padded + 16) * 4
            for d in range(0, v_padded, 16):
                simd.store(to + 4 * d, simd.load(values + 4 * (v_padded * r + d)))
            store_f32(to + 4 * v_padded, load_f32(ml + 8 * r))
            store_f32(to + 4 * v_padded + 4, load_f32(ml + 8 * r + 4))

    def attention(op, step, thread):  # type: ignore[no-untyped-def]
        counts, n_seqs = load_i64(op + ATTENTION.counts), load_i64(step + STEP.n_seqs)
        n_items = load_i64(counts + 8 * n_seqs)
        item = claim(thread, n_items)
        while item >= 0:
            seq = np.int64(0)
            while load_i64(counts + 8 * (seq + 1)) <= item:
                seq += 1
            n_head_kv = load_i64(op + ATTENTION.n_head_kv)
            group = load_i64(op + ATTENTION.n_head) // n_head_kv
            inside = item - load_i64(counts + 8 * seq)
            scratch = load_i64(thread + 8 * T_SCRATCH)
            if load_i64(load_i64(op + ATTENTION.split_base) + 8 * seq) >= 0:
                one_chunk(op, step, scratch, seq, inside // n_head_kv, group, inside % n_head_kv)
            else:
                whole_rows(op, step, scratch, seq, inside // n_head_kv, group, inside % n_head_kv)
            item = claim(thread, n_items)

    return attention
