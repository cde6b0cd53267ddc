"""How kernels see activations that were quantised to 8 bits.

Rows (tokens) stand in tiles of 8. A tile is a run of blocks, one for each 32 inputs, so that one
pointer with constant offsets reaches everything that a product of 16 outputs x 8 rows needs:

    256 bytes  codes, int8: 8 groups of 4 inputs x 8 rows x 4 inputs
     32 bytes  scale, f32 per row: largest magnitude / 127
     32 bytes  sum, f32 per row: scale * sum of codes (for formats with a minimum)
     32 bytes  offset, int32 per row: -8 * sum of codes (for formats with an offset)
 2 x 32 bytes  the same of the first and of the last 16 codes (for scales per 16 inputs)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from kernels import simd
from kernels.address import I8, I32, PTR, load_i32, store_f32, store_i32
from kernels.simd import I32X16, LANES, f32x16

TILE_ROWS = 8
BLOCK = 32  # inputs
SMALLEST = np.float32(1e-36)  # blocks of nothing larger are zeros: 127 / x would overflow
# A row's part of a block is 13 words of 4 bytes: 8 of codes, scale, sum, offset, two half offsets.
# Word i of row m stands at 4 * (height * i + m), for tiles of ``height`` rows.
SCALE, SUM, OFFSET, HALF_OFFSETS, N_WORDS = 8, 9, 10, 11, 13
BLOCK_BYTES = 4 * N_WORDS * TILE_ROWS


def tile_bytes(n_inputs: int) -> int:
    """Size of a tile of 8 rows."""
    return n_inputs // BLOCK * BLOCK_BYTES


@intrinsic
def _store_codes(ctx: Any, address: Any, x: Any) -> Any:
    """Write 16 rounded values as int8, each group of 4 at 32 bytes from the one before."""
    from numba import types

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        narrow = b.trunc(b.fptosi(args[1], I32X16), ir.VectorType(I8, LANES))
        groups = b.bitcast(narrow, ir.VectorType(I32, 4))
        for i in range(4):
            at = b.add(args[0], ir.Constant(args[0].type, 32 * i))
            value = b.extract_element(groups, ir.Constant(I32, i))
            b.store(value, b.inttoptr(at, PTR)).align = 4
        return c.get_dummy_value()

    return types.void(types.int64, f32x16), codegen


@njit(forceinline=True)
def quantize_block(low, high, block, row):
    """Quantise 32 inputs (two vectors) into row ``row`` of a block."""
    largest = simd.max_lanes(simd.maximum(simd.absolute(low), simd.absolute(high)))
    scale = largest * np.float32(1.0 / 127.0)
    inverse = np.float32(0.0)
    if largest > SMALLEST:
        inverse = np.float32(127.0) / largest
    low = simd.round_even(low * simd.splat(inverse))
    high = simd.round_even(high * simd.splat(inverse))
    block += 4 * row
    _store_codes(block, low)
    _store_codes(block + 128, high)
    first, second = simd.sum_lanes(low), simd.sum_lanes(high)
    total = first + second
    # An inf or a NaN, which codes cannot hold, makes the sum NaN (``largest`` may miss a NaN):
    # every product of this row says so.
    if total != total:
        scale = np.float32(np.nan)
    store_f32(block + 32 * SCALE, scale)
    store_f32(block + 32 * SUM, scale * total)
    store_i32(block + 32 * OFFSET, np.int64(total) * -8)
    store_i32(block + 32 * HALF_OFFSETS, np.int64(first) * -8)
    store_i32(block + 32 * (HALF_OFFSETS + 1), np.int64(second) * -8)


@njit(forceinline=True)
def quantize_row(x, n_inputs, tiles, row):
    """Quantise n_inputs float32 at address x into row ``row`` (of all) of tiles."""
    tile = tiles + (row // TILE_ROWS) * (n_inputs // BLOCK) * BLOCK_BYTES
    for k in range(n_inputs // BLOCK):
        at = x + 4 * BLOCK * k
        quantize_block(simd.load(at), simd.load(at + 64), tile + k * BLOCK_BYTES, row % TILE_ROWS)


@njit
def copy_row(source, row, target, to_row, n_inputs):
    """Copy one row of tiles to row ``to_row`` of other tiles."""
    n_blocks = n_inputs // BLOCK
    source += row // TILE_ROWS * n_blocks * BLOCK_BYTES + row % TILE_ROWS * 4
    target += to_row // TILE_ROWS * n_blocks * BLOCK_BYTES + to_row % TILE_ROWS * 4
    for word in range(n_blocks * BLOCK_BYTES // 32):
        store_i32(target + 32 * word, load_i32(source + 32 * word))


@njit
def compact_tile(source, n_blocks, height, target):
    """Copy the first ``height`` rows of a tile to a tile of that many rows.

    A product of one row reads an eighth of a tile's bytes, but all of its cache lines: with 4096
    inputs they fill more than an L1, and a stream of weights runs at three quarters of its speed.
    """
    for k in range(n_blocks):
        for word in range(N_WORDS):
            for row in range(height):
                at = target + 4 * ((k * N_WORDS + word) * height + row)
                store_i32(at, load_i32(source + k * BLOCK_BYTES + 32 * word + 4 * row))
