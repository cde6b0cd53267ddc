"""Causal attention of each token over its sequence's cells (flash-decoding, Dao et al. 2023).

Positions are cut into fixed chunks of 128. For a query row and a chunk: scores, their maximum m,
p = exp(score - m), l = sum p, acc = sum p v; chunks are folded in ascending order:

    M' = max(M, m)   L' = L e^(M-M') + l e^(m-M')   A' = A e^(M-M') + acc e^(m-M')   out = A / L

A head with a sink s (Xiao et al. 2023) begins with M = s, L = 1, A = 0.

The same operations run whether one thread takes all chunks of a row (prompts) or chunks are
spread over threads and folded afterwards (single tokens on a long context), and a masked position
adds exactly zero: a row's result depends on its own sequence and position alone. A chunk of which
a row sees nothing changes no bit of its sums, so it may be left out.
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
from slotmux.kernels.ops.attention.cells import CELLS, LATENT
from slotmux.kernels.ops.attention.plan import (
    TILE,
    block_table,
    chunks_seen,
    first_pos,
    partial_row,
    seq_tokens,
)
from slotmux.kernels.ops.attention.products import (
    CHUNK_BLOCKS,
    ROWS,
    S_CHOICE,
    S_L,
    S_M,
    S_POS,
    S_Q,
    LatentProducts,
    Products,
    Shape,
    n_blocks_of,
    values_at,
)
from slotmux.kernels.ops.attention.rows import (
    Item,
    finish_rows,
    fold_rows,
    gather_rows,
    place_of,
    rows_and_chunk_bytes,
    rows_bytes,
    start_rows,
)
from slotmux.kernels.ops.attention.softmax import UNSEEN
from slotmux.kernels.ops.attention.tiles import CHUNK


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
    chosen: Table[np.uint8] | None = reads(
        "[n_tokens, choice_bytes], see choice.py; None: tokens see all blocks", default=None
    )
    choice_bytes: int = given("of a token's choice", default=0)
    ratio: int = given("positions of a block that is chosen", default=0)
    partials: Table[np.float32] = writes(
        "[token][n_head][chunk seen][v_dim rounded up to 16, + 16]; the last 16: m, l"
    )
    out: Rows = writes("float32 [n_tokens, n_head * v_dim]")

    @property
    def variant(self) -> tuple[str, ...]:
        types = self.cells.k_type, self.cells.v_type
        return types if self.chosen is None else (*types, "chosen")

    def build(self, isa: Isa) -> Callable[..., None]:
        has_choice = self.chosen is not None
        return build_attention(isa, self.cells.k_type, self.cells.v_type, has_choice=has_choice)

    def scratch_bytes(self, isa: Isa) -> int:
        """Query rows, a tile's values, the rows' states, a chunk; behind what has a fixed size."""
        n_bytes = rows_bytes if self.cells.v_type == LATENT else rows_and_chunk_bytes
        return n_bytes(self.head_dim, round_up(self.v_dim, 16))


ATTENTION = offsets(Attention)
UNPACK_ROWS = 2 * TILE  # more rows than that read chunks unpacked to floats


@njit(forceinline=True)
def _shape_of(op):
    return Shape(
        load_i64(op + ATTENTION.head_dim),
        (load_i64(op + ATTENTION.v_dim) + 15) // 16 * 16,
        load_i64(op + ATTENTION.n_head_kv),
        load_i64(op + ATTENTION.k_cells),
        load_i64(op + ATTENTION.v_cells),
        load_i64(op + ATTENTION.window),
        load_f32(load_i64(op + ATTENTION.softcap)),
        load_i64(op + ATTENTION.ratio),
    )


@njit
def _take_rows(op, step, shape, scratch, rows):
    """The item's query rows into scratch, their positions, and where their choices are; returns
    where the positions lie."""
    gather_rows(shape, scratch, load_i64(op + ATTENTION.q), load_i64(op + ATTENTION.q_stride), rows)
    chosen, choice_bytes = load_i64(op + ATTENTION.chosen), load_i64(op + ATTENTION.choice_bytes)
    positions = load_i64(step + STEP.positions)
    for r in range(rows.n_rows):
        token, _ = place_of(rows, r)
        store_i64(scratch + S_POS + 8 * r, load_i32(positions + 4 * token))
        store_i64(scratch + S_CHOICE + 8 * r, chosen + token * choice_bytes)
    return scratch + S_POS


def _build_whole_rows(products: Products | LatentProducts) -> Any:
    find, unpack, ask, sees = products.find, products.unpack, products.ask, products.sees
    prepare, attend, attend_unpacked = products.prepare, products.attend, products.attend_unpacked

    @njit
    def attend_chunk(shape, scratch, table, head, n_rows, first, last, row_pos):
        """All tiles over the chunk from position ``first`` on: only cells that a tile sees."""
        is_unpacked = n_rows > UNPACK_ROWS
        n_cells, n_tiles = min(np.int64(CHUNK), last + 1 - first), (n_rows + TILE - 1) // TILE
        if not sees(shape, row_pos, n_rows, first, n_cells):
            return
        find(shape, scratch, table, head, 0, first // CHUNK, n_blocks_of(n_cells))
        if is_unpacked:
            unpack(shape, scratch, n_cells)
        for t in range(n_tiles):
            if is_unpacked:
                next_block = first // CELLS + CHUNK_BLOCKS
                end = min(next_block + CHUNK_BLOCKS, last // CELLS + 1)
                for i in range(next_block + t, end, n_tiles):
                    ask(shape, table, head, i)
            height, at = min(np.int64(TILE), n_rows - t * TILE), row_pos + 8 * TILE * t
            seen = min(n_cells, load_i64(at + 8 * (height - 1)) + 1 - first)
            if seen <= 0 or first + CHUNK <= first_pos(load_i64(at), shape.window):
                continue
            if not sees(shape, at, height, first, seen):
                continue
            if is_unpacked:
                attend_unpacked(shape, scratch, t, height, first, seen, at)
            else:
                attend(shape, scratch, t, height, first, seen, at)
            fold_rows(shape, scratch, t, height)

    @njit
    def whole_rows(op, step, scratch, seq, item, group, head):
        """As many rows as an item has over all their chunks, straight to out."""
        token, n_tokens = seq_tokens(step, seq)
        shape = _shape_of(op)
        first_row = item * ROWS
        n_rows = min(np.int64(ROWS), n_tokens * group - first_row)
        rows = Item(token, first_row, n_rows, group, head)
        row_pos = _take_rows(op, step, shape, scratch, rows)
        for r in range(n_rows):
            prepare(scratch + S_Q + 4 * shape.head_dim * r, shape.head_dim)
        start_rows(shape, scratch, load_i64(op + ATTENTION.sinks), rows)
        table = block_table(step, seq)
        last = load_i64(row_pos + 8 * (n_rows - 1))
        from_pos = first_pos(load_i64(row_pos), shape.window)
        for chunk in range(from_pos // CHUNK, last // CHUNK + 1):
            attend_chunk(shape, scratch, table, head, n_rows, chunk * CHUNK, last, row_pos)
        out, stride = load_i64(op + ATTENTION.out), load_i64(op + ATTENTION.out_stride)
        finish_rows(shape, scratch, out, stride, load_i64(op + ATTENTION.v_dim), rows)

    return whole_rows


@njit
def _partial_at(op, seq, row, group, head, n_chunks, chunk, v_padded):
    """Where partials have a row's part of a chunk, counted from the first that is seen."""
    base = load_i64(load_i64(op + ATTENTION.split_base) + 8 * seq)
    place = row // group * load_i64(op + ATTENTION.n_head) + head * group + row % group
    at = partial_row(base, place, n_chunks, chunk)
    return load_i64(op + ATTENTION.partials) + at * (v_padded + 16) * 4


@njit
def _put_row(shape, scratch, r, to):
    """Values, m and l of a tile's row r."""
    v_padded, values = shape.v_padded, values_at(shape, scratch)
    for d in range(0, v_padded, 16):
        simd.store(to + 4 * d, simd.load(values + 4 * (v_padded * r + d)))
    store_f32(to + 4 * v_padded, load_f32(scratch + S_M + 4 * r))
    store_f32(to + 4 * v_padded + 4, load_f32(scratch + S_L + 4 * r))


def _build_one_chunk(products: Products | LatentProducts) -> Any:
    find, attend, prepare, sees = (
        products.find,
        products.attend,
        products.prepare,
        products.sees,
    )

    @njit
    def one_chunk(op, step, scratch, seq, item, group, head):
        """A tile of rows over one chunk, to partials."""
        token, n_tokens = seq_tokens(step, seq)
        shape = _shape_of(op)
        n_tiles = (n_tokens * group + TILE - 1) // TILE
        first_row = item % n_tiles * TILE
        n_rows = min(np.int64(TILE), n_tokens * group - first_row)
        rows = Item(token, first_row, n_rows, group, head)
        row_pos = _take_rows(op, step, shape, scratch, rows)
        for r in range(n_rows):
            prepare(scratch + S_Q + 4 * shape.head_dim * r, shape.head_dim)
        from_chunk, n_chunks = chunks_seen(step, seq, shape.window)
        chunk = from_chunk + item // n_tiles
        first, last = chunk * CHUNK, load_i64(row_pos + 8 * (n_rows - 1))
        if first > last:
            return
        n_cells = min(np.int64(CHUNK), last + 1 - first)
        is_seen = sees(shape, row_pos, n_rows, first, n_cells)
        if is_seen:
            find(shape, scratch, block_table(step, seq), head, 1, chunk, n_blocks_of(n_cells))
            attend(shape, scratch, 0, n_rows, first, n_cells, row_pos)
        for r in range(n_rows):
            row, v_padded = first_row + r, shape.v_padded
            to = _partial_at(op, seq, row, group, head, n_chunks, chunk - from_chunk, v_padded)
            if is_seen:
                _put_row(shape, scratch, r, to)
            else:
                store_f32(to + 4 * v_padded, UNSEEN)

    return one_chunk


def build_attention(
    isa: Isa, k_type: str, v_type: str, *, has_choice: bool = False
) -> Callable[..., None]:
    """The kernel for one pair of cell types, of tokens that see all blocks or those that they have
    chosen; work items as counted by the plan."""
    products: Products | LatentProducts
    if v_type == LATENT:
        assert not has_choice
        products = LatentProducts(k_type)
    else:
        products = Products(isa, k_type, v_type, has_choice=has_choice)
    whole_rows, one_chunk = _build_whole_rows(products), _build_one_chunk(products)

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
