"""The inner products of attention: query rows times 16 cells, and weights times values.

A tile is a few query rows (a token's head each); widths and heights are fixed when compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import F16, F32, I8, I64, pointer, prefetch_ir
from slotmux.kernels.heights import HEIGHTS, by_height
from slotmux.kernels.ops.attention.cells import CELL_BYTES, CELLS, GROUP
from slotmux.kernels.simd import F32X16, I32X16, fma_ir, splat_ir

CHUNK = 128  # positions whose scores stand in one row of floats
# What has a scale for every GROUP dimensions, and the scales' type: q8_0, and its codes and scales
# as floats (unpack.py).
SCALES_OF = {"q8_0": "f16", "codes": "f32"}
BYTES_OF = {**CELL_BYTES, "codes": 4}
_SCALARS = {"f16": F16, "f32": F32, "q8_0": I8, "codes": F32}


def load_cells(b: Any, at: Any, cell_type: str) -> Any:
    """16 values of a cell type as float32 (codes without their scale for q8_0)."""
    value = b.load(at, typ=ir.VectorType(_SCALARS[cell_type], 16))
    value.align = 1
    if cell_type == "f16":
        return b.fpext(value, F32X16)
    return b.sitofp(b.sext(value, I32X16), F32X16) if cell_type == "q8_0" else value


def half_scalar(b: Any, at: Any) -> Any:
    """One f16 in all lanes."""
    value = b.load(at, typ=F16)
    value.align = 2
    return splat_ir(b, b.fpext(value, F32), F32X16)


def broadcast(b: Any, base: Any, offset: int) -> Any:
    value = b.load(pointer(b, base, offset), typ=F32)
    value.align = 4
    return splat_ir(b, value, F32X16)


def _addresses(b: Any, at: Any, n: int) -> list[Any]:
    """The first ``n`` of a list of int64."""
    return [b.load(pointer(b, at, 8 * i), typ=I64) for i in range(n)]


def _score_loop(
    b: Any,
    cell_type: str,
    q: tuple[Any, Any],
    keys: list[Any],
    lines: list[Any],
    ends: tuple[Any, Any],
    accs: list[list[Any]],
) -> None:
    """Add q[d] * k[d] for the dimensions between ``ends`` to accs: for each block of ``keys``, and
    each row of q (address, stride), a vector of 16 cells. ``lines``: blocks to ask for meanwhile.
    """
    with cgutils.for_range_slice(b, *ends, ir.Constant(I64, 1), intp=I64) as (d, _):
        at = b.mul(d, ir.Constant(I64, CELLS * BYTES_OF[cell_type]))
        for block in lines:
            prefetch_ir(b, b.add(block, at), 2)
        cells = [load_cells(b, pointer(b, block, at), cell_type) for block in keys]
        column = b.add(q[0], b.mul(d, ir.Constant(I64, 4)))
        for m in range(len(accs[0])):
            row = broadcast(b, b.add(column, b.mul(q[1], ir.Constant(I64, m))), 0)
            for block, acc in zip(cells, accs, strict=True):
                b.store(fma_ir(b, block, row, b.load(acc[m])), acc[m])


def _score_groups(
    b: Any,
    cell_type: str,
    q: tuple[Any, Any],
    head_dim: Any,
    keys: list[Any],
    lines: list[Any],
    accs: Any,
) -> None:
    """``_score_loop`` for codes: dimensions that share a scale are summed before it is applied."""
    scale_type = SCALES_OF[cell_type]
    scales_at = b.mul(head_dim, ir.Constant(I64, CELLS * BYTES_OF[cell_type]))
    scale_bytes = ir.Constant(I64, CELLS * BYTES_OF[scale_type])
    parts = [[cgutils.alloca_once(b, F32X16) for _ in block] for block in accs]
    with cgutils.for_range(b, b.udiv(head_dim, ir.Constant(I64, GROUP)), intp=I64) as loop:
        for part in chain.from_iterable(parts):
            b.store(ir.Constant(F32X16, None), part)
        first = b.mul(loop.index, ir.Constant(I64, GROUP))
        end = b.add(first, ir.Constant(I64, GROUP))
        _score_loop(b, cell_type, q, keys, lines, (first, end), parts)
        offset = b.add(scales_at, b.mul(loop.index, scale_bytes))
        for key, block, sums in zip(keys, parts, accs, strict=True):
            scale = load_cells(b, pointer(b, key, offset), scale_type)
            for part, acc in zip(block, sums, strict=True):
                b.store(fma_ir(b, b.load(part), scale, b.load(acc)), acc)


def make_score_tile(height: int, n_blocks: int, cell_type: str, *, asks: bool = True) -> Any:
    """(q, q_stride, head_dim, keys, values, out): dot products of ``height`` query rows with the
    cells of ``n_blocks`` blocks.

    q: float32 rows; keys, values: int64 addresses of a head's K and V in these blocks and some that
    follow; out: float32 rows of CHUNK. ``asks``: V is asked for meanwhile."""

    @intrinsic
    def tile(ctx, q, q_stride, head_dim, keys, values, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            q, q_stride, head_dim, keys, values, out = args
            zero = ir.Constant(F32X16, None)
            accs = [
                [cgutils.alloca_once_value(b, zero) for _ in range(height)] for _ in range(n_blocks)
            ]
            blocks = _addresses(b, keys, n_blocks)
            lines = _addresses(b, values, n_blocks) if asks else []
            if cell_type in SCALES_OF:
                _score_groups(b, cell_type, (q, q_stride), head_dim, blocks, lines, accs)
            else:
                ends = ir.Constant(I64, 0), head_dim
                _score_loop(b, cell_type, (q, q_stride), blocks, lines, ends, accs)
            for i, block in enumerate(accs):
                for m, acc in enumerate(block):
                    b.store(b.load(acc), pointer(b, out, 4 * (CHUNK * m + CELLS * i))).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return tile


def cell_values(
    b: Any, cell_type: str, block: Any, cell: Any, first: Any, v_padded: Any, width: int
) -> list[Any]:
    """``width`` vectors of a cell's values from dimension ``first`` on. block: a head's V."""
    size = CELL_BYTES[cell_type]
    row = b.mul(b.mul(cell, v_padded), ir.Constant(I64, size))
    at = b.add(b.add(block, row), b.mul(first, ir.Constant(I64, size)))
    values = [load_cells(b, pointer(b, at, 16 * size * w), cell_type) for w in range(width)]
    if cell_type != "q8_0":
        return values
    scales = b.add(block, b.mul(v_padded, ir.Constant(I64, CELLS)))
    n_groups = b.udiv(v_padded, ir.Constant(I64, GROUP))
    index = b.add(b.mul(cell, n_groups), b.udiv(first, ir.Constant(I64, GROUP)))
    at = b.add(scales, b.mul(index, ir.Constant(I64, 2)))
    # Tiles of more than a group begin where a group does.
    n_scales = -(-16 * width // GROUP)
    of_group = [half_scalar(b, pointer(b, at, 2 * i)) for i in range(n_scales)]
    return [b.fmul(value, of_group[16 * w // GROUP]) for w, value in enumerate(values)]


def make_value_tile(height: int, width: int, cell_type: str) -> Any:
    """(p, blocks, first, v_padded, n_cells, out, out_stride): sums of p * v over cells,
    for ``height`` rows and ``width`` vectors of 16 dimensions from ``first`` on.

    p: float32 rows of CHUNK; blocks: int64 addresses of a head's V; later: of as much
    memory that is asked for meanwhile."""

    @intrinsic
    def tile(ctx, p, blocks, later, first, v_padded, n_cells, out, out_stride):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            p, blocks, later, first, v_padded, n_cells, out, out_stride = args
            per_cell = 16 * width * CELL_BYTES[cell_type]
            zero = ir.Constant(F32X16, None)
            accs = [
                [cgutils.alloca_once_value(b, zero) for _ in range(width)] for _ in range(height)
            ]
            with cgutils.for_range(b, n_cells, intp=I64) as loop:
                index = b.lshr(loop.index, ir.Constant(I64, 4))
                place = b.shl(index, ir.Constant(I64, 3))
                block = b.load(pointer(b, blocks, place), typ=I64)
                line = b.load(pointer(b, later, place), typ=I64)
                cell = b.and_(loop.index, ir.Constant(I64, CELLS - 1))
                values = cell_values(b, cell_type, block, cell, first, v_padded, width)
                line = b.add(line, b.mul(first, ir.Constant(I64, CELLS * CELL_BYTES[cell_type])))
                line = b.add(line, b.mul(cell, ir.Constant(I64, per_cell)))
                for i in range(0, per_cell, 64):
                    prefetch_ir(b, b.add(line, ir.Constant(I64, i)), 2)
                column = b.add(p, b.shl(loop.index, ir.Constant(I64, 2)))
                for m in range(height):
                    weight = broadcast(b, column, 4 * CHUNK * m)
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


def build_scores(cell_type: str) -> Any:
    """A function for 1 to 8 rows: scores(n_rows, q, q_stride, head_dim, keys, values, n_blocks,
    out)."""
    return walk_blocks(lambda height, n: make_score_tile(height, n, cell_type))


def walk_blocks(make_tile: Callable[[int, int], Any]) -> Any:
    """``scores`` by tiles of so many rows and blocks. Several blocks at once: few rows would have
    too few sums that do not wait for each other, and many take as many loads of q for one block as
    for two."""
    one = by_height([make_tile(h, 1) for h in HEIGHTS])
    n_blocks_of = zip(HEIGHTS, (4, 4, 2, 2), strict=True)
    some = by_height([make_tile(h, n) for h, n in n_blocks_of])

    @njit
    def scores(n_rows, q, q_stride, head_dim, keys, values, n_blocks, out):
        i, together = np.int64(0), 2 if n_rows > 2 else 4
        while i < n_blocks:
            arguments = q, q_stride, head_dim, keys + 8 * i, values + 8 * i, out + 64 * i
            if i + together <= n_blocks:
                some(n_rows, arguments)
                i += together
            else:
                one(n_rows, arguments)
                i += 1

    return scores


def build_values(cell_type: str) -> Any:
    """A function for 1 to 8 rows: values(n_rows, p, blocks, later, v_padded, n_cells, out)."""
    return walk_columns(lambda height, width: make_value_tile(height, width, cell_type))


def walk_columns(make_tile: Callable[[int, int], Any]) -> Any:
    """``values`` by tiles of so many rows and vectors."""
    width_of = zip(HEIGHTS, (4, 4, 4, 2), strict=True)
    wide = by_height([make_tile(h, w) for h, w in width_of])
    thin = by_height([make_tile(h, 1) for h in HEIGHTS])

    @njit
    def values(n_rows, p, blocks, later, v_padded, n_cells, out):
        d, stride, width = np.int64(0), v_padded * 4, 32 if n_rows > 4 else 64
        while d < v_padded:
            arguments = p, blocks, later, d, v_padded, n_cells, out + d * 4, stride
            if d + width <= v_padded:
                wide(n_rows, arguments)
                d += width
            else:
                thin(n_rows, arguments)
                d += 16

    return values
