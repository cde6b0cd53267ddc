"""Folding chunks of attention together in ascending order, and finishing a token's heads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import BLOCK, blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Op,
    Rows,
    Table,
    Tiles,
    Vector,
    given,
    offsets,
    reads,
    round_up,
    tiles_of,
    updates,
)
from slotmux.kernels.ops.attention.plan import chunks_seen, partial_row, seq_of, seq_tokens
from slotmux.kernels.ops.attention.softmax import LOW, UNSEEN
from slotmux.kernels.ops.attention.tiles import CHUNK
from slotmux.kernels.quantize import quantize_tile

CHUNK_WIDTH = 256  # columns of a token that a chunk covers, about


class AttentionFold(Op, kernel="attention_fold"):
    """x = what partials of split sequences fold to, times sigmoid(gate)"""

    x: Rows = updates("float32 [n_tokens, n_head * v_dim], of sequences that are not split")
    split_base: Table[np.int64] = reads("see AttentionPlan")
    partials: Table[np.float32] = reads("see Attention")
    n_head: int = given("query heads")
    v_dim: int = given("width of a head's values")
    window: int = given("positions that a token sees; 0: all; below 0: see first_pos")
    sinks: Vector | None = given("see Attention", default=None)
    gate: Rows | None = reads("float32 [n_tokens, ..]; None: no gate", default=None)
    gate_head_stride: int = given("bytes from a head's gates to the next's", default=0)
    tiles: Tiles | None = tiles_of("x")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_attention_fold()

    def scratch_bytes(self, isa: Isa) -> int:
        """A head's state and its (m, l)."""
        return 4 * round_up(self.v_dim, 16) + 8


FOLD = offsets(AttentionFold)


@njit
def fold_chunk(state, state_ml, values, ml, width):
    """Fold one chunk's (values, m, l) of a row into the row's state; width: floats, by 16."""
    m_old, m_new = load_f32(state_ml), load_f32(ml)
    m = max(m_old, m_new)
    keep = simd.exp(simd.splat(m_old - m))
    add = simd.exp(simd.splat(m_new - m))
    for d in range(0, width, 16):
        kept = simd.load(state + 4 * d) * keep
        simd.store(state + 4 * d, simd.fma(simd.load(values + 4 * d), add, kept))
    l_old, l_new = simd.splat(load_f32(state_ml + 4)), simd.splat(load_f32(ml + 4))
    store_f32(state_ml, m)
    store_f32(state_ml + 4, simd.first(simd.fma(l_new, add, l_old * keep)))


@njit
def fold_tile(states, state_m, state_l, values, m_at, l_at, n_rows, width):
    """``fold_chunk`` of up to 16 rows whose m and l stand side by side, and behind each other their
    states and values; m and l of the chunk are lost. The exponentials of all rows are taken at
    once."""
    m_old, m_new = simd.load(state_m), simd.load(m_at)
    largest = simd.maximum(m_old, m_new)
    keep, add = simd.exp(m_old - largest), simd.exp(m_new - largest)
    simd.store(state_m, largest)
    simd.store(state_l, simd.fma(simd.load(l_at), add, simd.load(state_l) * keep))
    simd.store(m_at, keep)
    simd.store(l_at, add)
    for r in range(n_rows):
        keep, add = simd.splat(load_f32(m_at + 4 * r)), simd.splat(load_f32(l_at + 4 * r))
        for d in range(4 * width * r, 4 * width * (r + 1), 64):
            kept = simd.load(states + d) * keep
            simd.store(states + d, simd.fma(simd.load(values + d), add, kept))


@njit
def start_state(state, m_at, l_at, width, sinks, head):
    """A row's state before any chunk: of a head with a sink as if its score had been seen."""
    for d in range(0, width, 16):
        simd.store(state + 4 * d, simd.splat(np.float32(0.0)))
    store_f32(m_at, LOW if sinks == 0 else load_f32(sinks + 4 * head))
    store_f32(l_at, np.float32(0.0 if sinks == 0 else 1.0))


@njit
def finish_row(state, l_at, out, v_dim):
    """out = state / l"""
    total = load_f32(l_at)
    d = np.int64(0)
    while d + 16 <= v_dim:
        simd.store(out + 4 * d, simd.load(state + 4 * d) / simd.splat(total))
        d += 16
    while d < v_dim:
        store_f32(out + 4 * d, load_f32(state + 4 * d) / total)
        d += 1


@njit
def _fold_heads(op, step, scratch, seq, base, token, heads, x):
    """Fold the partial results of some heads of a token, in ascending order of chunks, into x."""
    n_head, v_dim = load_i64(op + FOLD.n_head), load_i64(op + FOLD.v_dim)
    width = (v_dim + 15) // 16 * 16
    first, _ = seq_tokens(step, seq)
    from_chunk, n_chunks = chunks_seen(step, seq, load_i64(op + FOLD.window))
    n_own = load_i32(load_i64(step + STEP.positions) + 4 * token) // CHUNK + 1 - from_chunk
    for head in range(heads[0], heads[1]):
        place = (token - first) * n_head + head
        m_at = scratch + 4 * width
        start_state(scratch, m_at, m_at + 4, width, load_i64(op + FOLD.sinks), head)
        for chunk in range(n_own):
            row = partial_row(base, place, n_chunks, chunk)
            at = load_i64(op + FOLD.partials) + row * (width + 16) * 4
            if load_f32(at + 4 * width) != UNSEEN:
                fold_chunk(scratch, m_at, at, at + 4 * width, width)
        finish_row(scratch, m_at + 4, x + 4 * head * v_dim, v_dim)


@njit
def _gate_head(x, gate, n):
    """x * sigmoid(gate) in place."""
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for d in range(0, n, 16):
        denominator = one + simd.exp(zero - simd.load(gate + 4 * d))
        y = simd.load(x + 4 * d) / denominator
        if d + 16 > n:
            y = simd.first_lanes(y, n - d, simd.load(x + 4 * d))
        simd.store(x + 4 * d, y)


@njit
def _finish_heads(op, step, scratch, token, heads):
    """Fold and gate some heads of a token."""
    v_dim = load_i64(op + FOLD.v_dim)
    x = load_i64(op + FOLD.x) + token * load_i64(op + FOLD.x_stride)
    seq = seq_of(step, token)
    base = load_i64(load_i64(op + FOLD.split_base) + 8 * seq)
    if base >= 0:
        _fold_heads(op, step, scratch, seq, base, token, heads, x)
    gate = load_i64(op + FOLD.gate)
    if gate != 0:
        gate += token * load_i64(op + FOLD.gate_stride)
        for head in range(heads[0], heads[1]):
            at = gate + head * load_i64(op + FOLD.gate_head_stride)
            _gate_head(x + 4 * head * v_dim, at, v_dim)


def build_attention_fold() -> Callable[..., None]:
    """Complete what attention left in parts, apply the gate, quantise; a chunk is some heads of a
    tile of tokens, so many that 8-bit blocks end with them."""

    def attention_fold(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens, scratch = load_i64(step + STEP.n_tokens), load_i64(thread + 8 * T_SCRATCH)
        n_head, v_dim = load_i64(op + FOLD.n_head), load_i64(op + FOLD.v_dim)
        tiles, stride = load_i64(op + FOLD.tiles), load_i64(op + FOLD.x_stride)
        whole = BLOCK // min(BLOCK, v_dim & -v_dim)  # heads after which a block ends
        per_chunk = max(1, CHUNK_WIDTH // (whole * v_dim)) * whole
        n_chunks = n_tile_parts(n_tokens, n_head, per_chunk)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token, n_of_tile, first, end = tile_part(chunk, n_tokens, n_head, per_chunk)
            for i in range(n_of_tile):
                _finish_heads(op, step, scratch, token + i, (first, end))
            if tiles != 0:
                x = load_i64(op + FOLD.x) + token * stride + 4 * first * v_dim
                blocks = blocks_at(tiles, n_head * v_dim, token, first * v_dim)
                quantize_tile(x, stride, (end - first) * v_dim, n_of_tile, blocks)
            chunk = claim(thread, n_chunks)

    return attention_fold
