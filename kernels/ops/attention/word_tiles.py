"""The inner products of attention on cells of 16-bit codes, in whole numbers.

A query row, and the weights of a chunk's cells, become 16-bit codes with one scale a row; products
are summed in 32 bits without rounding, two to an instruction, so that their order does not matter.
Nothing overflows. Scores: |sum| <= |q| |k| (Cauchy, Schwarz), and codes are scaled by the norms.
Values: |sum| <= sum of weights * largest code of V, and weights are scaled by their sum.

    score = (q codes . k codes) * (q scale * k scale)
    w = p * v scale of its cell        sum of p v = (w codes . v codes) * w scale
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.address import (
    I16,
    I64,
    load_f32,
    load_i64,
    pointer,
    prefetch_ir,
    store_f32,
    store_i16,
)
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I16X16, I16X32, I32X8, by_halves
from slotmux.kernels.ops.attention.cells import CELLS, SMALLEST, VALUE_CODES
from slotmux.kernels.ops.attention.tiles import CHUNK, walk_blocks, walk_columns
from slotmux.kernels.simd import F32X16, I32X16, splat_ir

MAX_CODE = np.float32(32767.0)
# Norm of a query's codes: times that of a key's, 32000, less than 2^31 by more than rounding adds.
QUERY_NORM = np.float32(65000.0)
# Sum of a row's weights as codes, likewise.
WEIGHT_SUM = np.float32(0.992 * 2**31 / VALUE_CODES)


def _vnni512(b: Any, acc: Any, x: Any, y: Any) -> Any:
    kind = ir.FunctionType(I32X16, [I32X16, I16X32, I16X32])
    fn = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx512.vpdpwssd.512")
    return b.call(fn, [acc, b.bitcast(x, I16X32), b.bitcast(y, I16X32)])


def _vnni256(b: Any, acc: Any, x: Any, y: Any) -> Any:
    kind = ir.FunctionType(I32X8, [I32X8, I16X16, I16X16])
    fn = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx512.vpdpwssd.256")
    return b.call(fn, [acc, b.bitcast(x, I16X16), b.bitcast(y, I16X16)])


def _avx2(b: Any, acc: Any, x: Any, y: Any) -> Any:
    kind = ir.FunctionType(I32X8, [I16X16, I16X16])
    fn = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx2.pmadd.wd")
    return b.add(acc, b.call(fn, [b.bitcast(x, I16X16), b.bitcast(y, I16X16)]))


def _portable(b: Any, acc: Any, x: Any, y: Any) -> Any:
    half = ir.Constant(I32X16, [16] * 16)
    for part in (lambda v: b.ashr(b.shl(v, half), half), lambda v: b.ashr(v, half)):
        acc = b.add(acc, b.mul(part(x), part(y)))
    return acc


def dot_words(b: Any, isa: Isa, acc: Any, x: Any, y: Any) -> Any:
    """acc plus the two products of signed 16-bit halves of each of 16 lanes (all int32 vectors)."""
    if isa.is_avx512:
        return _vnni512(b, acc, x, y)
    if isa is Isa.AVX_VNNI:
        return by_halves(_vnni256)(b, acc, x, y)
    return by_halves(_avx2)(b, acc, x, y) if isa is Isa.AVX2 else _portable(b, acc, x, y)


def _load(b: Any, at: Any, kind: Any) -> Any:
    value = b.load(at, typ=kind)
    value.align = 1
    return value


def _splat_at(b: Any, at: Any, kind: Any) -> Any:
    """A 32-bit number in all lanes."""
    return splat_ir(b, _load(b, at, kind.element), kind)


def _addresses(b: Any, at: Any, n: int) -> list[Any]:
    return [_load(b, pointer(b, at, 8 * i), I64) for i in range(n)]


def _score_pairs(b: Any, isa: Isa, q: Any, q_stride: Any, n_pairs: Any, blocks: Any, lines: Any,
                 accs: Any) -> None:  # fmt: skip
    """Add the products of all pairs of dimensions to accs, [block][row]."""
    with cgutils.for_range(b, n_pairs, intp=I64) as loop:
        at = b.mul(loop.index, ir.Constant(I64, 4 * CELLS))
        for line in lines:
            prefetch_ir(b, b.add(line, at), 2)
        keys = [_load(b, pointer(b, block, at), I32X16) for block in blocks]
        column = b.add(q, b.mul(loop.index, ir.Constant(I64, 4)))
        for m in range(len(accs[0])):
            row = b.add(column, b.mul(q_stride, ir.Constant(I64, m)))
            codes = _splat_at(b, pointer(b, row), I32X16)
            for key, acc in zip(keys, accs, strict=True):
                b.store(dot_words(b, isa, b.load(acc[m]), key, codes), acc[m])


def make_word_score_tile(isa: Isa, height: int, n_blocks: int) -> Any:
    """(q, q_stride, head_dim, keys, values, out) as ``make_score_tile`` has it; q: rows of codes
    with their scale behind them."""

    @intrinsic
    def tile(ctx, q, q_stride, head_dim, keys, values, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            q, q_stride, head_dim, keys, values, out = args
            zero = ir.Constant(I32X16, None)
            accs = [
                [cgutils.alloca_once_value(b, zero) for _ in range(height)] for _ in range(n_blocks)
            ]
            blocks, lines = _addresses(b, keys, n_blocks), _addresses(b, values, n_blocks)
            n_pairs = b.lshr(head_dim, ir.Constant(I64, 1))
            _score_pairs(b, isa, q, q_stride, n_pairs, blocks, lines, accs)
            scale_at = b.mul(head_dim, ir.Constant(I64, 2))
            scales_at = b.mul(head_dim, ir.Constant(I64, 2 * CELLS))
            for m in range(height):
                row = b.add(q, b.mul(q_stride, ir.Constant(I64, m)))
                q_scale = _splat_at(b, pointer(b, row, scale_at), F32X16)
                for i, block in enumerate(blocks):
                    k_scales = _load(b, pointer(b, block, scales_at), F32X16)
                    sums = b.sitofp(b.load(accs[i][m]), F32X16)
                    score = b.fmul(sums, b.fmul(q_scale, k_scales))
                    b.store(score, pointer(b, out, 4 * (CHUNK * m + CELLS * i))).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return tile


def make_word_value_tile(isa: Isa, height: int, width: int) -> Any:
    """(p, blocks, later, first, v_padded, n_pairs, out, out_stride) as ``make_value_tile`` has it;
    p: rows of codes, CHUNK of 2 bytes and then their scale."""

    @intrinsic
    def tile(ctx, p, blocks, later, first, v_padded, n_pairs, out, out_stride):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            p, blocks, later, first, v_padded, n_pairs, out, out_stride = args
            zero = ir.Constant(I32X16, None)
            accs = [
                [cgutils.alloca_once_value(b, zero) for _ in range(width)] for _ in range(height)
            ]
            four = ir.Constant(I64, 4)
            with cgutils.for_range(b, n_pairs, intp=I64) as loop:
                place = b.shl(b.lshr(loop.index, ir.Constant(I64, 3)), ir.Constant(I64, 3))
                block, line = (_load(b, pointer(b, at, place), I64) for at in (blocks, later))
                pair = b.and_(loop.index, ir.Constant(I64, CELLS // 2 - 1))
                at = b.mul(b.add(b.mul(pair, v_padded), first), four)
                values = [
                    _load(b, pointer(b, b.add(block, at), 64 * w), I32X16) for w in range(width)
                ]
                for w in range(width):
                    prefetch_ir(b, b.add(b.add(line, at), ir.Constant(I64, 64 * w)), 2)
                column = b.add(p, b.mul(loop.index, four))
                for m in range(height):
                    codes = _splat_at(b, pointer(b, column, 4 * CHUNK * m), I32X16)
                    for value, acc in zip(values, accs[m], strict=True):
                        b.store(dot_words(b, isa, b.load(acc), value, codes), acc)
            for m in range(height):
                scale = _splat_at(b, pointer(b, p, 4 * CHUNK * m + 2 * CHUNK), F32X16)
                at = b.add(out, b.mul(out_stride, ir.Constant(I64, m)))
                for w in range(width):
                    sums = b.fmul(b.sitofp(b.load(accs[m][w]), F32X16), scale)
                    b.store(sums, pointer(b, at, 64 * w)).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return tile


@intrinsic
def _store_codes(ctx: Any, address: Any, x: Any) -> Any:
    """16 values, rounded to the nearest even whole number, as int16."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        whole = b.fptosi(simd.unary_ir(b, "rint", args[1]), I32X16)
        b.store(b.trunc(whole, ir.VectorType(I16, 16)), pointer(b, args[0])).align = 1
        return c.get_dummy_value()

    return types.void(types.int64, simd.f32x16), codegen


@njit
def query_codes(q, head_dim):
    """A row of float32 to codes and behind them its scale, in place."""
    total, largest = np.float32(0.0), np.float32(0.0)
    for d in range(head_dim):
        x = load_f32(q + 4 * d)
        total += x * x
        largest = max(largest, abs(x))
    scale = max(np.sqrt(total) / QUERY_NORM, largest / MAX_CODE)
    inverse = np.float32(1.0) / scale if scale > SMALLEST else np.float32(0.0)
    for d in range(0, head_dim - 15, 16):
        _store_codes(q + 2 * d, simd.load(q + 4 * d) * simd.splat(inverse))
    for d in range(head_dim // 16 * 16, head_dim):
        store_i16(q + 2 * d, np.int64(np.rint(load_f32(q + 4 * d) * inverse)))
    store_f32(q + 2 * head_dim, scale)


@njit
def weight_codes(p, blocks, n_blocks, scales_at):
    """Terms of a row's softmax times the scales of their cells, to codes and behind CHUNK of them
    their scale, in place. A term of zero stays zero whatever the scale of a cell that is not seen.
    """
    zero = simd.splat(np.float32(0.0))
    total, largest = zero, zero
    for i in range(n_blocks):
        term = simd.load(p + 64 * i)
        w = term * simd.load(load_i64(blocks + 8 * i) + scales_at)
        w = simd.where_less(zero, term, w, zero)
        simd.store(p + 64 * i, w)
        total, largest = total + w, simd.maximum(largest, w)
    scale = max(simd.sum_lanes(total) / WEIGHT_SUM, simd.max_lanes(largest) / MAX_CODE)
    inverse = np.float32(1.0) / scale if scale > SMALLEST else np.float32(0.0)
    for i in range(n_blocks):
        _store_codes(p + 32 * i, simd.load(p + 64 * i) * simd.splat(inverse))
    store_f32(p + 2 * CHUNK, scale)


def build_word_scores(isa: Isa) -> Any:
    """As ``build_scores``; q: rows that ``query_codes`` made."""
    return walk_blocks(lambda height, n: make_word_score_tile(isa, height, n))


def build_word_values(isa: Isa) -> Any:
    """As ``build_values``; terms become codes in place."""
    walk = walk_columns(lambda height, width: make_word_value_tile(isa, height, width))

    @njit
    def values(n_rows, p, blocks, later, v_padded, n_cells, out):
        n_blocks, scales_at = (n_cells + CELLS - 1) // CELLS, 2 * CELLS * v_padded
        for r in range(n_rows):
            weight_codes(p + 4 * CHUNK * r, blocks, n_blocks, scales_at)
        walk(n_rows, p, blocks, later, v_padded, (n_cells + 1) // 2, out)

    return values
