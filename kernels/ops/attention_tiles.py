"""The inner products of attention: query rows times 16 cells, and weights times values.

A tile is a few query rows (a token's head each); widths and heights are fixed when compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.address import F16, F32, I64, pointer
from kernels.simd import F32X16, fma_ir, splat_ir

CHUNK = 128  # positions whose scores stand in one row of floats


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
            accs = [cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(height)]
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


def build_tiles(cell_type: str) -> tuple[Any, Any]:
    """Functions for 1 to 8 rows: scores(n_rows, q, q_stride, head_dim, k, out) and
    values(n_rows, p, blocks, offset, v_padded, n_cells, out)."""
    s1, s2, s4, s8 = (make_score_tile(h, cell_type) for h in (1, 2, 4, 8))
    w1, w2, w4, w8 = (make_value_tile(h, 2, cell_type) for h in (1, 2, 4, 8))
    t1, t2, t4, t8 = (make_value_tile(h, 1, cell_type) for h in (1, 2, 4, 8))
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

    return scores_of, values_of
