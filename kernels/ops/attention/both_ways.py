"""Attention of whole texts: each token sees the tokens on both sides of it (Devlin et al. 2018).

A text is in the ubatch from end to end, so its keys and values are rows there and nothing is kept.
Positions are cut into chunks of 128 whose results are folded in ascending order, as causal
attention folds them (attention.py): a row's result depends on its own text and position alone.

    score(i, j) = scale q_i k_j - slope |i - j|        (ALiBi, Press et al. 2021; slope 0: none)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_i64
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
from slotmux.kernels.ops.attention.cells import CELLS
from slotmux.kernels.ops.attention.plan import TILE
from slotmux.kernels.ops.attention.products import (
    ROWS,
    S_KEYS,
    S_L,
    S_M,
    S_Q,
    S_SCORES,
    S_VALUES,
    Shape,
    n_blocks_of,
    unpacked_at,
    values_at,
)
from slotmux.kernels.ops.attention.rows import (
    Item,
    finish_rows,
    fold_rows,
    gather_rows,
    place_of,
    rows_and_chunk_bytes,
    start_rows,
)
from slotmux.kernels.ops.attention.softmax import largest_score, softmax_terms
from slotmux.kernels.ops.attention.text_tiles import gather_keys, gather_values
from slotmux.kernels.ops.attention.tiles import CHUNK
from slotmux.kernels.ops.attention.unpack import (
    PANEL,
    build_unpacked_scores,
    build_unpacked_values,
    unpacked_values_at,
)
from slotmux.kernels.simd import F32X16, f32x16

PART_TOKENS = 128


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
        """As attention of cells has it (products.py)."""
        return rows_and_chunk_bytes(self.head_dim, round_up(self.v_dim, 16))


BOTH_WAYS = offsets(BothWays)


@njit(forceinline=True)
def _shape_of(op):
    return Shape(
        load_i64(op + BOTH_WAYS.head_dim),
        (load_i64(op + BOTH_WAYS.v_dim) + 15) // 16 * 16,
        load_i64(op + BOTH_WAYS.n_head_kv),
        0,
        0,
        load_i64(op + BOTH_WAYS.window),
        0.0,
        0,
    )


@njit
def _take_rows(op, shape, scratch, item):
    """The item's query rows, scaled."""
    q, stride = load_i64(op + BOTH_WAYS.q), load_i64(op + BOTH_WAYS.q_stride)
    gather_rows(shape, scratch, q, stride, item)
    scale = simd.splat(load_f32(load_i64(op + BOTH_WAYS.scale)))
    for i in range(0, item.n_rows * shape.head_dim, 16):
        at = scratch + S_Q + 4 * i
        simd.store(at, simd.load(at) * scale)


@njit
def _take_chunk(op, shape, scratch, row, n_cells, head):
    """K and V of ``n_cells`` tokens of a text, from its row ``row`` of the ubatch on."""
    to, v_dim = unpacked_at(shape, scratch), load_i64(op + BOTH_WAYS.v_dim)
    k_stride, v_stride = load_i64(op + BOTH_WAYS.k_stride), load_i64(op + BOTH_WAYS.v_stride)
    k = load_i64(op + BOTH_WAYS.k) + row * k_stride + 4 * head * shape.head_dim
    v = load_i64(op + BOTH_WAYS.v) + row * v_stride + 4 * head * v_dim
    gather_keys(k, k_stride, n_cells, shape.head_dim, to, scratch + S_KEYS)
    gather_values(v, v_stride, n_cells, v_dim, unpacked_values_at(to, shape.head_dim))


@intrinsic
def _lane_numbers(ctx: Any) -> Any:
    """0, 1, .. 15."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(F32X16, [float(i) for i in range(16)])

    return f32x16(), codegen


@njit
def _lean(scores, n_blocks, apart, slope):
    """A row's scores -= slope * |apart|, |apart + 1|, ..."""
    for i in range(n_blocks):
        distance = simd.absolute(_lane_numbers() + simd.splat(apart + np.float32(CELLS * i)))
        s = simd.load(scores + 64 * i) - distance * simd.splat(slope)
        simd.store(scores + 64 * i, s)


@njit(forceinline=True)
def _cells_seen(window, pos, last, first, n_cells):
    """Which cells of a chunk from position ``first`` on tokens ``pos`` .. ``last`` see, in order:
    from, to."""
    if window <= 0:
        return np.int64(0), n_cells
    return max(np.int64(0), pos - window - first), min(n_cells, last + window + 1 - first)


@njit
def _weigh_rows(op, scratch, item, tile, n_rows, first, n_cells):
    """A tile's scores of ``n_cells`` cells from position ``first`` on to terms."""
    n_blocks, window = n_blocks_of(n_cells), load_i64(op + BOTH_WAYS.window)
    slopes = load_i64(op + BOTH_WAYS.slopes)
    for r in range(n_rows):
        token, head = place_of(item, TILE * tile + r)
        pos, row = token - item.token, scratch + S_SCORES + 4 * CHUNK * r
        if slopes != 0:
            _lean(row, n_blocks, np.float32(first - pos), load_f32(slopes + 4 * head))
        begin, end = _cells_seen(window, pos, pos, first, n_cells)
        largest_score(row, begin, end, n_blocks, scratch + S_M + 4 * r)
    for r in range(n_rows):
        token, _ = place_of(item, TILE * tile + r)
        pos, row = token - item.token, scratch + S_SCORES + 4 * CHUNK * r
        begin, end = _cells_seen(window, pos, pos, first, n_cells)
        m_at = scratch + S_M + 4 * r
        softmax_terms(row, begin, end, n_blocks, m_at, m_at + S_L - S_M)


def _build_attend_tile() -> Any:
    scores_of, values_of = build_unpacked_scores("f32"), build_unpacked_values()

    @njit
    def attend_tile(op, shape, scratch, item, tile, first, n_cells):
        """A tile of the item's rows over the chunk from position ``first`` on, into their states:
        of the blocks that it sees."""
        head_dim, n_rows = shape.head_dim, min(np.int64(TILE), item.n_rows - TILE * tile)
        token, _ = place_of(item, TILE * tile)
        end_token, _ = place_of(item, TILE * tile + n_rows - 1)
        begin, end = _cells_seen(
            shape.window, token - item.token, end_token - item.token, first, n_cells
        )
        if begin >= end:
            return
        begin = begin // CELLS * CELLS
        n_cells, first = end - begin, first + begin
        q, scores = scratch + S_Q + 4 * TILE * tile * head_dim, scratch + S_SCORES
        keys, values = scratch + S_KEYS + begin // CELLS * 8, scratch + S_VALUES
        scores_of(n_rows, q, 4 * head_dim, head_dim, keys, keys, n_blocks_of(n_cells), scores)
        _weigh_rows(op, scratch, item, tile, n_rows, first, n_cells)
        panels = unpacked_values_at(unpacked_at(shape, scratch), head_dim)
        store_i64(values, panels + 4 * PANEL * begin)
        out = values_at(shape, scratch)
        values_of(n_rows, scores, values, values, shape.v_padded, n_cells, out)
        fold_rows(shape, scratch, tile, n_rows)

    return attend_tile


def build_both_ways() -> Callable[..., None]:
    """The kernel; a chunk is a piece of a text and a KV head."""
    attend_tile = _build_attend_tile()

    @njit
    def attend_rows(op, shape, scratch, item, n_tokens, taken):
        """Some rows over all chunks of their text. ``taken``: the chunk in scratch, -1: none;
        returns that."""
        _take_rows(op, shape, scratch, item)
        start_rows(shape, scratch, 0, item)
        pos, _ = place_of(item, 0)
        last, _ = place_of(item, item.n_rows - 1)
        begin, end = _cells_seen(shape.window, pos - item.token, last - item.token, 0, n_tokens)
        for chunk in range(begin // CHUNK, (end + CHUNK - 1) // CHUNK):
            first, n_cells = chunk * CHUNK, min(np.int64(CHUNK), n_tokens - chunk * CHUNK)
            if chunk != taken:
                _take_chunk(op, shape, scratch, item.token + first, n_cells, item.head)
                taken = chunk
            for tile in range((item.n_rows + TILE - 1) // TILE):
                attend_tile(op, shape, scratch, item, tile, first, n_cells)
        out, stride = load_i64(op + BOTH_WAYS.out), load_i64(op + BOTH_WAYS.out_stride)
        finish_rows(shape, scratch, out, stride, load_i64(op + BOTH_WAYS.v_dim), item)
        return taken

    @njit
    def attend_part(op, scratch, part, head):
        """A piece of a text and the query heads of a KV head."""
        token, n_tokens, first = load_i32(part), load_i32(part + 4), load_i32(part + 8)
        shape, taken = _shape_of(op), np.int64(-1)
        group = load_i64(op + BOTH_WAYS.n_head) // shape.n_head_kv
        end_row = min(first + PART_TOKENS, n_tokens) * group
        for row in range(first * group, end_row, ROWS):
            item = Item(token, row, min(np.int64(ROWS), end_row - row), group, head)
            taken = attend_rows(op, shape, scratch, item, n_tokens, taken)

    def both_ways(op, step, thread):  # type: ignore[no-untyped-def]
        n_head_kv = load_i64(op + BOTH_WAYS.n_head_kv)
        n_chunks = load_i64(load_i64(op + BOTH_WAYS.n_parts)) * n_head_kv
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            part = load_i64(op + BOTH_WAYS.parts) + 12 * (chunk // n_head_kv)
            attend_part(op, load_i64(thread + 8 * T_SCRATCH), part, chunk % n_head_kv)
            chunk = claim(thread, n_chunks)

    return both_ways
