"""A chunk's keys and values brought together from rows of a text, as unpacked cells are
(unpack.py): what attention of whole texts multiplies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.address import I32, I64, load_f32, pointer, store_f32, store_i64
from slotmux.kernels.ops.attention.cells import CELLS
from slotmux.kernels.ops.attention.unpack import PANEL, PANEL_BYTES
from slotmux.kernels.simd import F32X16

BLOCK_ROW = 4 * CELLS  # bytes of a dimension of 16 keys


def _transposed(b: Any, rows: list[Any]) -> list[Any]:
    """16 vectors whose lane i is lane v of the i-th of ``rows``, for each lane v."""
    for width in (8, 4, 2, 1):  # of the runs of lanes that two vectors exchange
        low = [i if i // width % 2 == 0 else 16 + i - width for i in range(16)]
        index = ir.VectorType(I32, 16)
        halves = [ir.Constant(index, [i + n for i in low]) for n in (0, width)]
        made = list(rows)
        for i in range(16):
            if i // width % 2 == 0:
                pair = rows[i], rows[i + width]
                made[i], made[i + width] = (b.shuffle_vector(*pair, half) for half in halves)
        rows = made
    return rows


@intrinsic
def _transpose(ctx: Any, source: Any, stride: Any, n: Any, to: Any) -> Any:
    """16 floats of ``n`` rows, ``stride`` bytes apart, to 16 rows of 16, one behind the other; what
    no row is for has the last one's."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        source, stride, n, to = args
        last = b.sub(n, ir.Constant(I64, 1))
        rows = []
        for i in range(16):
            row = ir.Constant(I64, i)
            row = b.select(b.icmp_signed("<", row, last), row, last)
            value = b.load(pointer(b, b.add(source, b.mul(row, stride))), typ=F32X16)
            value.align = 4
            rows.append(value)
        for i, column in enumerate(_transposed(b, rows)):
            b.store(column, pointer(b, to, BLOCK_ROW * i)).align = 4
        return c.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@njit
def gather_keys(k, stride, n_cells, head_dim, to, keys):
    """float32 rows at k to blocks [head_dim][16 cells] from ``to`` on, whose int64 addresses go to
    ``keys``. Lanes behind the last row are for nobody to read."""
    whole = head_dim // 16 * 16
    for first in range(0, n_cells, CELLS):
        block, source = to + 4 * first * head_dim, k + first * stride
        store_i64(keys + 8 * (first // CELLS), block)
        n = min(np.int64(CELLS), n_cells - first)
        for d in range(0, whole, 16):
            _transpose(source + 4 * d, stride, n, block + BLOCK_ROW * d)
        for d in range(whole, head_dim):
            for i in range(n):
                store_f32(block + BLOCK_ROW * d + 4 * i, load_f32(source + i * stride + 4 * d))


@njit
def gather_values(v, stride, n_cells, v_dim, to):
    """float32 rows of ``v_dim`` at v to panels [cell][32] from ``to`` on, zeros up to a multiple of
    16. Rows have room for whole vectors."""
    zero = simd.splat(np.float32(0.0))
    for cell in range(n_cells):
        row = v + cell * stride
        for d in range(0, v_dim, 16):
            at = to + d // PANEL * PANEL_BYTES + 4 * (PANEL * cell + d % PANEL)
            simd.store(at, simd.first_lanes(simd.load(row + 4 * d), v_dim - d, zero))
