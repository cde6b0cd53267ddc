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

from kernels.address import F16, F32, I8, I64, pointer
from kernels.ops.cells import CELL_BYTES, CELLS, GROUP
from kernels.simd import F32X16, I32X16, fma_ir, splat_ir

CHUNK = 128  # positions whose scores stand in one row of floats


def _load_cells(b: Any, at: Any, cell_type: str) -> Any:
    """16 values of a cell type as float32 (codes without their scale for q8_0)."""
    scalar = {"f16": F16, "f32": F32, "q8_0": I8}[cell_type]
    value = b.load(at, typ=ir.VectorType(scalar, 16))
    value.align = 1
    if cell_type == "f16":
        return b.fpext(value, F32X16)
    return b.sitofp(b.sext(value, I32X16), F32X16) if cell_type == "q8_0" else value


def _half_scalar(b: Any, at: Any) -> Any:
    """One f16 in all lanes."""
    value = b.load(at, typ=F16)
    value.align = 2
    return splat_ir(b, b.fpext(value, F32), F32X16)


def _broadcast(b: Any, base: Any, offset: int) -> Any:
    value = b.load(pointer(b, base, offset), typ=F32)
    value.align = 4
    return splat_ir(b, value, F32X16)


def _score_loop(
    b: Any, cell_type: str, q: Any, q_stride: Any, k: Any, first: Any, end: Any, accs: list[Any]
) -> None:
    """Add q[d] * k[d] for dimensions first .. end - 1 to accs, one vector of 16 cells a row."""
    with cgutils.for_range_slice(b, first, end, ir.Constant(I64, 1), intp=I64) as (d, _):
        at = pointer(b, k, b.mul(d, ir.Constant(I64, CELLS * CELL_BYTES[cell_type])))
        keys = _load_cells(b, at, cell_type)
        column = b.add(q, b.mul(d, ir.Constant(I64, 4)))
        for m, acc in enumerate(accs):
            row = b.add(column, b.mul(q_stride, ir.Constant(I64, m)))
            b.store(fma_ir(b, keys, _broadcast(b, row, 0), b.load(acc)), acc)


def make_score_tile(height: int, cell_type: str) -> Any:
    """(q, q_stride, head_dim, k, out): dot products of ``height`` query rows with 16 cells.

    q: float32 rows; k: a head's K in a block; out: float32 rows of CHUNK."""
    zero = ir.Constant(F32X16, None)

    def by_groups(b: Any, q: Any, q_stride: Any, head_dim: Any, k: Any, accs: list[Any]) -> None:
        scales = b.add(k, b.mul(head_dim, ir.Constant(I64, CELLS)))
        parts = [cgutils.alloca_once(b, F32X16) for _ in accs]
        n_groups = b.udiv(head_dim, ir.Constant(I64, GROUP))
        with cgutils.for_range(b, n_groups, intp=I64) as loop:
            for part in parts:
                b.store(zero, part)
            first = b.mul(loop.index, ir.Constant(I64, GROUP))
            end = b.add(first, ir.Constant(I64, GROUP))
            _score_loop(b, cell_type, q, q_stride, k, first, end, parts)
            at = pointer(b, scales, b.mul(loop.index, ir.Constant(I64, 2 * CELLS)))
            scale = _load_cells(b, at, "f16")
            for part, acc in zip(parts, accs, strict=True):
                b.store(fma_ir(b, b.load(part), scale, b.load(acc)), acc)

    @intrinsic
    def tile(ctx, q, q_stride, head_dim, k, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            q, q_stride, head_dim, k, out = args
            accs = [cgutils.alloca_once_value(b, zero) for _ in range(height)]
            if cell_type == "q8_0":
                by_groups(b, q, q_stride, head_dim, k, accs)
            else:
                start = ir.Constant(I64, 0)
                _score_loop(b, cell_type, q, q_stride, k, start, head_dim, accs)
            for m, acc in enumerate(accs):
                b.store(b.load(acc), pointer(b, out, 4 * CHUNK * m)).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return tile


def _cell_values(
    b: Any, cell_type: str, block: Any, cell: Any, first: Any, v_padded: Any, width: int
) -> list[Any]:
    """``width`` vectors of a cell's values from dimension ``first`` on. block: a head's V."""
    size = CELL_BYTES[cell_type]
    row = b.mul(b.mul(cell, v_padded), ir.Constant(I64, size))
    at = b.add(b.add(block, row), b.mul(first, ir.Constant(I64, size)))
    values = [_load_cells(b, pointer(b, at, 16 * size * w), cell_type) for w in range(width)]
    if cell_type != "q8_0":
        return values
    scales = b.add(block, b.mul(v_padded, ir.Constant(I64, CELLS)))
    n_groups = b.udiv(v_padded, ir.Constant(I64, GROUP))
    index = b.add(b.mul(cell, n_groups), b.udiv(first, ir.Constant(I64, GROUP)))
    scale = _half_scalar(b, pointer(b, scales, b.mul(index, ir.Constant(I64, 2))))
    return [b.fmul(value, scale) for value in values]


def make_value_tile(height: int, width: int, cell_type: str) -> Any:
    """(p, blocks, offset, first, v_padded, n_cells, out, out_stride): sums of p * v over cells,
    for ``height`` rows and ``width`` vectors of 16 dimensions from ``first`` on.

    p: float32 rows of CHUNK; blocks: int64 addresses of V blocks; offset: of the head in them."""

    @intrinsic
    def tile(ctx, p, blocks, offset, first, v_padded, n_cells, out, out_stride):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            p, blocks, offset, first, v_padded, n_cells, out, out_stride = args
            zero = ir.Constant(F32X16, None)
            accs = [
                [cgutils.alloca_once_value(b, zero) for _ in range(width)] for _ in range(height)
            ]
            with cgutils.for_range(b, n_cells, intp=I64) as loop:
                index = b.lshr(loop.index, ir.Constant(I64, 4))
                block = b.load(pointer(b, blocks, b.shl(index, ir.Constant(I64, 3))), typ=I64)
                cell = b.and_(loop.index, ir.Constant(I64, CELLS - 1))
                head = b.add(block, offset)
                values = _cell_values(b, cell_type, head, cell, first, v_padded, width)
                column = b.add(p, b.shl(loop.index, ir.Constant(I64, 2)))
                for m in range(height):
                    weight = _broadcast(b, column, 4 * CHUNK * m)
                    for w in range(width):
                        acc = accs[m][w]
                        b.store(fma_ir(b, values[w], weight, b.load(acc)), acc)
            for m in range(height):
                at = b.add(out, b.mul(out_stride, ir.Constant(I64, m)))
                for w in range(width):
                    b.store(b.load(accs[m][w]), pointer(b, at, 64 * w)).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return tile


def build_tiles(k_type: str, v_type: str) -> tuple[Any, Any]:
    """Functions for 1 to 8 rows: scores(n_rows, q, q_stride, head_dim, k, out) and
    values(n_rows, p, blocks, offset, v_padded, n_cells, out)."""
    s1, s2, s4, s8 = (make_score_tile(h, k_type) for h in (1, 2, 4, 8))
    w1, w2, w4, w8 = (make_value_tile(h, 2, v_type) for h in (1, 2, 4, 8))
    t1, t2, t4, t8 = (make_value_tile(h, 1, v_type) for h in (1, 2, 4, 8))

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
        d, stride = np.int64(0), v_padded * 4
        while d + 32 <= v_padded:
            to = out + d * 4
            if n_rows > 4:
                w8(p, blocks, offset, d, v_padded, n_cells, to, stride)
            elif n_rows > 2:
                w4(p, blocks, offset, d, v_padded, n_cells, to, stride)
            elif n_rows == 2:
                w2(p, blocks, offset, d, v_padded, n_cells, to, stride)
            else:
                w1(p, blocks, offset, d, v_padded, n_cells, to, stride)
            d += 32
        if d < v_padded:
            to = out + d * 4
            if n_rows > 4:
                t8(p, blocks, offset, d, v_padded, n_cells, to, stride)
            elif n_rows > 2:
                t4(p, blocks, offset, d, v_padded, n_cells, to, stride)
            elif n_rows == 2:
                t2(p, blocks, offset, d, v_padded, n_cells, to, stride)
            else:
                t1(p, blocks, offset, d, v_padded, n_cells, to, stride)

    return scores_of, values_of
