"""Causal attention of each token over its sequence's cells (flash-decoding, Dao et al. 2023).

Positions are cut into fixed chunks of 128. For a query row and a chunk: scores, their maximum m,
p = exp(score - m), l = sum p, acc = sum p v; chunks are folded in ascending order:

    M' = max(M, m)   L' = L e^(M-M') + l e^(m-M')   A' = A e^(M-M') + acc e^(m-M')   out = A / L

The same operations run whether one thread takes all chunks of a row (prompts) or chunks are
spread over threads and folded afterwards (single tokens on a long context), and a masked position
adds exactly zero: a row's result depends on its own sequence and position alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels import simd
from kernels.activations import quantize_row
from kernels.address import (
    F16,
    F32,
    I64,
    load_f32,
    load_i32,
    load_i64,
    pointer,
    store_f32,
    store_i32,
    store_i64,
)
from kernels.operands import STEP, words
from kernels.simd import F32X16, fma_ir, splat_ir
from kernels.team import T_SCRATCH, claim

CELLS = 16
CHUNK = 128  # positions
CHUNK_BLOCKS = CHUNK // CELLS
TILE = 8  # query rows computed together; a row is one token's head
GROUP_TILES = 4  # tiles of a prompt that share a chunk's K and V in cache
SPLIT_TOKENS = 16  # a sequence with at most so many tokens in the ubatch may be split by chunks
LOW = np.float32(-1e30)  # below every score; not infinite, so that differences stay finite

# counts: int64 [n_slots + 1] work items before each sequence of the ubatch; split_base: int32
# [n_slots] first row in partials, -1 = not split; split_capacity: tokens that partials can hold;
# group: query heads that share a KV head.
PLAN = words("AttentionPlan", "counts split_base split_capacity group n_head_kv window")
# q: float32 rows of stride bytes; out: float32 rows of out_stride bytes [n_head * v_dim];
# partials: float32 [tokens][n_head][max_chunks][v_dim rounded up to 16, + 16] (last 16: m, l).
ATTENTION = words(
    "Attention",
    "q stride k_cells v_cells n_head n_head_kv head_dim v_dim window counts split_base partials "
    "max_chunks out out_stride",
)
# x: rows that attention wrote (or will be folded from partials); gate: rows whose sigmoid scales
# the result (0: none), head h at gate + h * gate_head_stride; tiles: 8-bit activations (0: none).
FOLD = words(
    "AttentionFold",
    "x x_stride n_head v_dim split_base partials max_chunks window gate gate_stride "
    "gate_head_stride tiles",
)


def _float_type(cell_type: str) -> Any:
    return ir.VectorType(F16 if cell_type == "f16" else F32, 16)


def _load_cells(b: Any, at: Any, cell_type: str) -> Any:
    value = b.load(at, typ=_float_type(cell_type))
    value.align = 2
    return b.fpext(value, F32X16) if cell_type == "f16" else value


def _broadcast(b: Any, base: Any, offset: int) -> Any:
    value = b.load(pointer(b, base, offset), typ=F32)
    value.align = 4
    return splat_ir(b, value, F32X16)


def make_score_tile(height: int, cell_type: str) -> Any:
    """(q, q_stride, head_dim, k, out): dot products of ``height`` query rows with 16 cells.

    q: float32 rows; k: [head_dim][16] cells; out: float32 rows of CHUNK."""
    cell_bytes = 2 if cell_type == "f16" else 4

    @intrinsic
    def tile(ctx, q, q_stride, head_dim, k, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            q, q_stride, head_dim, k, out = args
            accs = [
                cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(height)
            ]
            with cgutils.for_range(b, head_dim, intp=I64) as loop:
                d = loop.index
                at = pointer(b, k, b.mul(d, ir.Constant(I64, 16 * cell_bytes)))
                keys = _load_cells(b, at, cell_type)
                column = b.add(q, b.mul(d, ir.Constant(I64, 4)))
                for m, acc in enumerate(accs):
                    row = b.add(column, b.mul(q_stride, ir.Constant(I64, m)))
                    b.store(fma_ir(b, keys, _broadcast(b, row, 0), b.load(acc)), acc)
            for m, acc in enumerate(accs):
                b.store(b.load(acc), pointer(b, out, 4 * CHUNK * m)).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return tile


def make_value_tile(height: int, width: int, cell_type: str) -> Any:
    """(p, blocks, offset, row_bytes, n_cells, out, out_stride): sums of p * v over cells, for
    ``height`` rows and ``width`` vectors of 16 dimensions.

    p: float32 rows of CHUNK; blocks: int64 addresses of V blocks, offset: bytes into each;
    row_bytes: of a cell."""
    cell_bytes = 2 if cell_type == "f16" else 4

    @intrinsic
    def tile(ctx, p, blocks, offset, row_bytes, n_cells, out, out_stride):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            p, blocks, offset, row_bytes, n_cells, out, out_stride = args
            accs = [
                [cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(width)]
                for _ in range(height)
            ]
            with cgutils.for_range(b, n_cells, intp=I64) as loop:
                cell = loop.index
                index = b.lshr(cell, ir.Constant(I64, 4))
                block = b.load(pointer(b, blocks, b.shl(index, ir.Constant(I64, 3))), typ=I64)
                inside = b.mul(b.and_(cell, ir.Constant(I64, 15)), row_bytes)
                row = b.add(b.add(block, offset), inside)
                values = [
                    _load_cells(b, pointer(b, row, 16 * cell_bytes * w), cell_type)
                    for w in range(width)
                ]
                column = b.add(p, b.shl(cell, ir.Constant(I64, 2)))
                for m in range(height):
                    weight = _broadcast(b, column, 4 * CHUNK * m)
                    for w in range(width):
                        acc = accs[m][w]
                        b.store(fma_ir(b, values[w], weight, b.load(acc)), acc)
            for m in range(height):
                for w in range(width):
                    at = b.add(out, b.mul(out_stride, ir.Constant(I64, m)))
                    b.store(b.load(accs[m][w]), pointer(b, at, 64 * w)).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return tile


@njit
def _seq_tokens(step, seq):
    """First token of a sequence's run in the ubatch, and how many."""
    starts = load_i64(step + STEP.seq_start) + 4 * seq
    first = load_i32(starts)
    return first, load_i32(starts + 4) - first


@njit
def _first_pos(pos, window):
    """First position that a token at ``pos`` sees."""
    return max(np.int64(0), pos - window + 1) if window > 0 else np.int64(0)


def build_attention_plan() -> Callable[..., None]:
    """How many work items each sequence gives; one chunk in all."""

    def attention_plan(op, step, thread):  # type: ignore[no-untyped-def]
        chunk = claim(thread, 1)
        while chunk >= 0:
            counts, bases = load_i64(op + PLAN.counts), load_i64(op + PLAN.split_base)
            group, window = load_i64(op + PLAN.group), load_i64(op + PLAN.window)
            total, base = np.int64(0), np.int64(0)
            store_i64(counts, 0)
            for seq in range(load_i64(step + STEP.n_seqs)):
                first, n = _seq_tokens(step, seq)
                positions = load_i64(step + STEP.positions) + 4 * first
                start = _first_pos(load_i32(positions), window) // CHUNK
                n_chunks = load_i32(positions + 4 * (n - 1)) // CHUNK + 1 - start
                n_rows = n * group
                fits = base + n <= load_i64(op + PLAN.split_capacity)
                if n <= SPLIT_TOKENS and n_chunks > 1 and fits:
                    store_i32(bases + 4 * seq, base)
                    base += n
                    n_items = (n_rows + TILE - 1) // TILE * n_chunks
                else:
                    store_i32(bases + 4 * seq, -1)
                    n_items = (n_rows + TILE * GROUP_TILES - 1) // (TILE * GROUP_TILES)
                total += n_items * load_i64(op + PLAN.n_head_kv)
                store_i64(counts + 8 * (seq + 1), total)
            chunk = claim(thread, 1)

    return attention_plan


# Places in a thread's scratch, in bytes.
S_Q, S_SCORES, S_CHUNK, S_STATE, S_ML, S_BLOCKS = 0, 65536, 131072, 196608, 327680, 331776


def _build_chunk(cell_type: str) -> Any:
    """Scores, softmax terms and weighted values of one tile of rows over one chunk."""
    s1, s2, s4, s8 = (make_score_tile(h, cell_type) for h in (1, 2, 4, 8))
    wide = [make_value_tile(h, 2, cell_type) for h in (1, 2, 4, 8)]
    thin = [make_value_tile(h, 1, cell_type) for h in (1, 2, 4, 8)]
    w1, w2, w4, w8 = wide
    t1, t2, t4, t8 = thin
    size = 2 if cell_type == "f16" else 4

    @njit
    def scores_of(n_rows, q, q_stride, head_dim, k, out):
        if n_rows > 4:
            s8(q, q_stride, head_dim, k, out)
        elif n_rows > 2:
            s4(q, q_stride, head_dim, k, out)
        elif n_rows == 2:
            s2(q, q_stride, head_dim, k, out)
        else:
            s1(q, q_stride, head_dim, k, out)

    @njit
    def values_of(n_rows, p, blocks, offset, v_padded, n_cells, out):
        row_bytes, stride = v_padded * size, v_padded * 4
        d = np.int64(0)
        while d < v_padded:
            at, to = offset + d * size, out + d * 4
            if d + 32 <= v_padded:
                if n_rows > 4:
                    w8(p, blocks, at, row_bytes, n_cells, to, stride)
                elif n_rows > 2:
                    w4(p, blocks, at, row_bytes, n_cells, to, stride)
                elif n_rows == 2:
                    w2(p, blocks, at, row_bytes, n_cells, to, stride)
                else:
                    w1(p, blocks, at, row_bytes, n_cells, to, stride)
                d += 32
            else:
                if n_rows > 4:
                    t8(p, blocks, at, row_bytes, n_cells, to, stride)
                elif n_rows > 2:
                    t4(p, blocks, at, row_bytes, n_cells, to, stride)
                elif n_rows == 2:
                    t2(p, blocks, at, row_bytes, n_cells, to, stride)
                else:
                    t1(p, blocks, at, row_bytes, n_cells, to, stride)
                d += 16

    @njit
    def softmax_row(scores, first, n_blocks, pos, window, ml):
        """Scores of a row (positions first, first + 1, ...) to terms e^(s - m); m and l to ml."""
        seen_from = _first_pos(pos, window) - first
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
    def attend_chunk(op, scratch, tile, n_rows, table, head, chunk, last_pos, row_pos, out, ml):
        """One tile over one chunk: values to out (rows of v_padded floats), (m, l) to ml.

        row_pos: int64 address of the rows' positions; last_pos: the sequence's last position
        whose cell is written."""
        head_dim, v_dim = load_i64(op + ATTENTION.head_dim), load_i64(op + ATTENTION.v_dim)
        n_head_kv, v_padded = load_i64(op + ATTENTION.n_head_kv), (v_dim + 15) // 16 * 16
        first = chunk * CHUNK
        n_cells = min(np.int64(CHUNK), last_pos + 1 - first)
        n_blocks = (n_cells + CELLS - 1) // CELLS
        k_bytes = head_dim * CELLS * size
        scores, blocks = scratch + S_SCORES, scratch + S_BLOCKS
        q = scratch + S_Q + tile * TILE * head_dim * 4
        for i in range(n_blocks):
            block = load_i32(table + 4 * (chunk * CHUNK_BLOCKS + i))
            k = load_i64(op + ATTENTION.k_cells) + (block * n_head_kv + head) * k_bytes
            v = load_i64(op + ATTENTION.v_cells)
            store_i64(blocks + 8 * i, v + block * n_head_kv * v_padded * CELLS * size)
            scores_of(n_rows, q, head_dim * 4, head_dim, k, scores + 64 * i)
        window = load_i64(op + ATTENTION.window)
        for r in range(n_rows):
            pos = load_i64(row_pos + 8 * r)
            softmax_row(scores + 4 * CHUNK * r, first, n_blocks, pos, window, ml + 8 * r)
        offset = head * CELLS * v_padded * size
        values_of(n_rows, scores, blocks, offset, v_padded, n_cells, out)

    return attend_chunk


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
def start_state(state, state_ml, width):
    """A row's state before any chunk."""
    for d in range(0, width, 16):
        simd.store(state + 4 * d, simd.splat(np.float32(0.0)))
    store_f32(state_ml, LOW)
    store_f32(state_ml + 4, np.float32(0.0))


@njit
def _gather_rows(op, step, scratch, first_token, first_row, n_rows, group, head):
    """Copy n_rows query rows of a KV head's group into scratch, and their positions."""
    head_dim, stride = load_i64(op + ATTENTION.head_dim), load_i64(op + ATTENTION.stride)
    row_pos = scratch + S_ML + 2048
    for r in range(n_rows):
        row = first_row + r
        token = first_token + row // group
        q = load_i64(op + ATTENTION.q) + token * stride
        q += (head * group + row % group) * head_dim * 4
        to = scratch + S_Q + r * head_dim * 4
        for d in range(head_dim):
            store_f32(to + 4 * d, load_f32(q + 4 * d))
        pos = load_i32(load_i64(step + STEP.positions) + 4 * token)
        store_i64(row_pos + 8 * r, pos)
    return row_pos


def build_attention(cell_type: str) -> Callable[..., None]:
    """The kernel for one cell type; work items as counted by the plan."""
    attend_chunk = _build_chunk(cell_type)

    @njit
    def whole_rows(op, step, scratch, seq, item, group, head):
        """Up to 32 rows over all their chunks, straight to out."""
        first, n_tokens = _seq_tokens(step, seq)
        n_rows = min(np.int64(TILE * GROUP_TILES), n_tokens * group - item * TILE * GROUP_TILES)
        first_row = item * TILE * GROUP_TILES
        row_pos = _gather_rows(op, step, scratch, first, first_row, n_rows, group, head)
        v_dim = load_i64(op + ATTENTION.v_dim)
        width = (v_dim + 15) // 16 * 16
        for r in range(n_rows):
            start_state(scratch + S_STATE + 4 * width * r, scratch + S_ML + 8 * r, width)
        table = _table(step, seq)
        last = load_i64(row_pos + 8 * (n_rows - 1))
        from_pos = _first_pos(load_i64(row_pos), load_i64(op + ATTENTION.window))
        for chunk in range(from_pos // CHUNK, last // CHUNK + 1):
            for t in range((n_rows + TILE - 1) // TILE):
                height = min(np.int64(TILE), n_rows - t * TILE)
                at, ml = row_pos + 8 * TILE * t, scratch + S_ML + 1024
                attend_chunk(op, scratch, t, height, table, head, chunk, last, at,
                             scratch + S_CHUNK, ml)  # fmt: skip
                for r in range(height):
                    row = t * TILE + r
                    fold_chunk(scratch + S_STATE + 4 * width * row, scratch + S_ML + 8 * row,
                               scratch + S_CHUNK + 4 * width * r, ml + 8 * r, width)  # fmt: skip
        out_stride = load_i64(op + ATTENTION.out_stride)
        for r in range(n_rows):
            row = first_row + r
            to = load_i64(op + ATTENTION.out) + (first + row // group) * out_stride
            to += (head * group + row % group) * v_dim * 4
            finish_row(scratch + S_STATE + 4 * width * r, scratch + S_ML + 8 * r, to, v_dim)

    @njit
    def one_chunk(op, step, scratch, seq, item, group, head):
        """A tile of rows over one chunk, to partials."""
        first, n_tokens = _seq_tokens(step, seq)
        n_tiles = (n_tokens * group + TILE - 1) // TILE
        first_row = item % n_tiles * TILE
        n_rows = min(np.int64(TILE), n_tokens * group - first_row)
        row_pos = _gather_rows(op, step, scratch, first, first_row, n_rows, group, head)
        positions = load_i64(step + STEP.positions) + 4 * first
        window = load_i64(op + ATTENTION.window)
        chunk = item // n_tiles + _first_pos(load_i32(positions), window) // CHUNK
        last = load_i64(row_pos + 8 * (n_rows - 1))
        if chunk * CHUNK > last:
            return
        v_padded = (load_i64(op + ATTENTION.v_dim) + 15) // 16 * 16
        ml = scratch + S_ML + 1024
        attend_chunk(op, scratch, 0, n_rows, _table(step, seq), head, chunk, last, row_pos,
                     scratch + S_CHUNK, ml)  # fmt: skip
        base = load_i32(load_i64(op + ATTENTION.split_base) + 4 * seq)
        for r in range(n_rows):
            row = first_row + r
            to = load_i64(op + ATTENTION.partials)
            n_head, max_chunks = load_i64(op + ATTENTION.n_head), load_i64(op + ATTENTION.max_chunks)
            place = (base + row // group) * n_head + head * group + row % group
            to += (place * max_chunks + chunk) * (v_padded + 16) * 4
            for d in range(0, v_padded, 16):
                simd.store(to + 4 * d, simd.load(scratch + S_CHUNK + 4 * (v_padded * r + d)))
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
            if load_i32(load_i64(op + ATTENTION.split_base) + 4 * seq) >= 0:
                one_chunk(op, step, scratch, seq, inside // n_head_kv, group, inside % n_head_kv)
            else:
                whole_rows(op, step, scratch, seq, inside // n_head_kv, group, inside % n_head_kv)
            item = claim(thread, n_items)

    return attention


@njit
def finish_row(state, state_ml, out, v_dim):
    """out = state / l"""
    total = load_f32(state_ml + 4)
    d = np.int64(0)
    while d + 16 <= v_dim:
        simd.store(out + 4 * d, simd.load(state + 4 * d) / simd.splat(total))
        d += 16
    while d < v_dim:
        store_f32(out + 4 * d, load_f32(state + 4 * d) / total)
        d += 1


@njit
def _table(step, seq):
    slot = load_i32(load_i64(step + STEP.seq_slot) + 4 * seq)
    return load_i64(step + STEP.block_tables) + 4 * slot * load_i64(step + STEP.max_blocks)


@njit
def _seq_of(step, token):
    seq = np.int64(0)
    while load_i32(load_i64(step + STEP.seq_start) + 4 * (seq + 1)) <= token:
        seq += 1
    return seq


@njit
def _fold_token(op, step, scratch, seq, base, token, x):
    """Fold the partial results of a token's heads, in ascending order of chunks, into x."""
    n_head, v_dim = load_i64(op + FOLD.n_head), load_i64(op + FOLD.v_dim)
    width, max_chunks = (v_dim + 15) // 16 * 16, load_i64(op + FOLD.max_chunks)
    first, _ = _seq_tokens(step, seq)
    positions = load_i64(step + STEP.positions)
    pos = load_i32(positions + 4 * token)
    from_chunk = _first_pos(load_i32(positions + 4 * first), load_i64(op + FOLD.window)) // CHUNK
    for head in range(n_head):
        place = (base + token - first) * n_head + head
        start_state(scratch, scratch + 4 * width, width)
        for chunk in range(from_chunk, pos // CHUNK + 1):
            at = load_i64(op + FOLD.partials) + (place * max_chunks + chunk) * (width + 16) * 4
            fold_chunk(scratch, scratch + 4 * width, at, at + 4 * width, width)
        finish_row(scratch, scratch + 4 * width, x + 4 * head * v_dim, v_dim)


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


def build_attention_fold() -> Callable[..., None]:
    """Complete what attention left in parts, apply the gate, quantise; a chunk is a token."""

    def attention_fold(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n_head, v_dim = load_i64(op + FOLD.n_head), load_i64(op + FOLD.v_dim)
            x = load_i64(op + FOLD.x) + token * load_i64(op + FOLD.x_stride)
            seq = _seq_of(step, token)
            base = load_i32(load_i64(op + FOLD.split_base) + 4 * seq)
            if base >= 0:
                _fold_token(op, step, load_i64(thread + 8 * T_SCRATCH), seq, base, token, x)
            gate = load_i64(op + FOLD.gate)
            if gate != 0:
                gate += token * load_i64(op + FOLD.gate_stride)
                for head in range(n_head):
                    at = gate + head * load_i64(op + FOLD.gate_head_stride)
                    _gate_head(x + 4 * head * v_dim, at, v_dim)
            tiles = load_i64(op + FOLD.tiles)
            if tiles != 0:
                quantize_row(x, n_head * v_dim, tiles, token)
            token = claim(thread, n_tokens)

    return attention_fold
