"""The inner products of latent attention: query rows times cells that stand one after the other.

All heads share a cell, and its first part is what values are summed from, so both products read the
same rows: scores along a cell, values across cells. What is a block there is what is V elsewhere
(cells.py): [16 cells][width], scales behind.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import I32, I64, load_i64, pointer
from slotmux.kernels.heights import HEIGHTS, by_height
from slotmux.kernels.ops.attention.cells import CELLS
from slotmux.kernels.ops.attention.tiles import CHUNK, cell_values, make_value_tile
from slotmux.kernels.simd import F32X16, LANES, fma_ir

# Cells whose sums are held at once, by height: enough that no sum waits for itself.
CELLS_OF = dict(zip(HEIGHTS, (8, 8, 4, 2), strict=True))


def _sum_lanes(b: Any, v: Any) -> Any:
    """Halves onto each other, as ``simd.sum_lanes`` does."""
    n = LANES
    while n > 1:
        n //= 2
        undefined, index = ir.Constant(v.type, ir.Undefined), ir.VectorType(I32, n)
        low, high = (
            b.shuffle_vector(v, undefined, ir.Constant(index, list(range(first, first + n))))
            for first in (0, n)
        )
        v = b.fadd(low, high)
    return b.extract_element(v, ir.Constant(I32, 0))


def make_latent_score_tile(height: int, cell_type: str) -> Any:
    """An intrinsic (q, q_stride, width, block, out): dot products of ``height`` query rows with the
    16 cells of a block.

    q: float32 rows of ``width``, a multiple of 16; out: float32 rows of CHUNK."""
    n_cells = CELLS_OF[height]

    @intrinsic
    def tile(ctx, q, q_stride, width, block, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            q, q_stride, width, block, out = args
            zero = ir.Constant(F32X16, None)
            sums = [[cgutils.alloca_once(b, F32X16) for _ in range(n_cells)] for _ in range(height)]
            ends = ir.Constant(I64, 0), ir.Constant(I64, CELLS)
            with cgutils.for_range_slice(b, *ends, ir.Constant(I64, n_cells), intp=I64) as (
                cell,
                _,
            ):
                for total in (total for row in sums for total in row):
                    b.store(zero, total)
                along = ir.Constant(I64, 0), width, ir.Constant(I64, LANES)
                with cgutils.for_range_slice(b, *along, intp=I64) as (d, _):
                    values = [
                        cell_values(
                            b, cell_type, block, b.add(cell, ir.Constant(I64, i)), d, width, 1
                        )[0]
                        for i in range(n_cells)
                    ]
                    column = b.add(q, b.mul(d, ir.Constant(I64, 4)))
                    for m, row in enumerate(sums):
                        at = b.add(column, b.mul(q_stride, ir.Constant(I64, m)))
                        query = b.load(pointer(b, at), typ=F32X16)
                        query.align = 4
                        for value, total in zip(values, row, strict=True):
                            b.store(fma_ir(b, value, query, b.load(total)), total)
                to = b.add(out, b.mul(cell, ir.Constant(I64, 4)))
                for m, row in enumerate(sums):
                    for i, total in enumerate(row):
                        at = pointer(b, to, 4 * (CHUNK * m + i))
                        b.store(_sum_lanes(b, b.load(total)), at).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return tile


def build_latent_scores(cell_type: str) -> Any:
    """A function for 1 to 8 rows: scores(n_rows, q, q_stride, width, blocks, n_blocks, out), blocks
    being int64 addresses."""
    tile = by_height([make_latent_score_tile(height, cell_type) for height in HEIGHTS])

    @njit
    def scores(n_rows, q, q_stride, width, blocks, n_blocks, out):
        for i in range(n_blocks):
            tile(n_rows, (q, q_stride, width, load_i64(blocks + 8 * i), out + 64 * i))

    return scores


def build_latent_values(cell_type: str) -> Any:
    """A function for 1 to 8 rows: values(n_rows, p, blocks, width, n, n_cells, out): the first
    ``n`` dimensions (a multiple of 16) of cells of ``width``, weighted; out: rows of n floats."""
    width_of = zip(HEIGHTS, (4, 4, 4, 2), strict=True)
    wide = by_height([make_value_tile(h, w, cell_type) for h, w in width_of])
    thin = by_height([make_value_tile(h, 1, cell_type) for h in HEIGHTS])

    @njit
    def values(n_rows, p, blocks, width, n, n_cells, out):
        d, stride, together = 0, n * 4, 32 if n_rows > 4 else 64
        while d < n:
            # What is asked for ahead is what is read anyway.
            arguments = p, blocks, blocks, d, width, n_cells, out + d * 4, stride
            if d + together <= n:
                wide(n_rows, arguments)
                d += together
            else:
                thin(n_rows, arguments)
                d += 16

    return values
