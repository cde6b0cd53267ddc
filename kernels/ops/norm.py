"""RMS norm of rows, with the result as float32, as 8-bit activations, or both.

y = x / sqrt(mean(x^2) + eps) * w                                   (Zhang & Sennrich 2019)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from kernels import simd
from kernels.activations import BLOCK, BLOCK_BYTES, TILE_ROWS, quantize_block
from kernels.address import load_f32, load_i32, load_i64
from kernels.claims import T_N_THREADS, claim
from kernels.operands import words

# x: float32 rows of x_stride bytes; index: int32 row numbers to take instead of 0, 1, ... (0:
# none); n_rows: address of the number of rows; weight: float32 [n] (0: none); eps: address of
# a float32; out: float32 rows of out_stride bytes, not those of x (0: none); tiles: 8-bit
# activations (0: none); add: 1 adds to out instead of overwriting it.
RMS_NORM = words("RmsNorm", "x x_stride index n_rows n weight eps out out_stride tiles add")
MIN_COLUMNS = 128  # of a chunk


@njit(forceinline=True)
def load_row_vector(address, i, n):
    """Floats i .. i + 15 of a row of n, zeros past its end."""
    value = simd.load(address + 4 * i)
    if i + 16 > n:
        value = simd.first_lanes(value, n - i, simd.splat(np.float32(0.0)))
    return value


@njit(forceinline=True)
def inverse_rms(x, n, eps):
    """1 / sqrt(mean(x^2) + eps) of n floats at address x (buffers are padded to 16 floats)."""
    total = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        v = load_row_vector(x, i, n)
        total = simd.fma(v, v, total)
    mean = simd.sum_lanes(total) / np.float32(n)
    return np.float32(1.0) / np.sqrt(mean + eps)


@njit(forceinline=True)
def rms_norm_row(x, n, weight, eps, out):
    """Normalise n floats at x into out (may be x)."""
    scale = simd.splat(inverse_rms(x, n, eps))
    for i in range(0, n, 16):
        v = load_row_vector(x, i, n) * scale
        if weight != 0:
            v = v * load_row_vector(weight, i, n)
        simd.store(out + 4 * i, v)


@njit(forceinline=True)
def _scaled(x, weight, n, i, scale):
    v = load_row_vector(x, i, n) * scale
    return v * load_row_vector(weight, i, n) if weight != 0 else v


@njit
def _norm_columns(op, row, first, end):
    """Columns ``first`` to ``end`` of a row: normalise, and store, add or quantise them."""
    index, n = load_i64(op + RMS_NORM.index), load_i64(op + RMS_NORM.n)
    source = load_i32(index + 4 * row) if index != 0 else row
    x = load_i64(op + RMS_NORM.x) + source * load_i64(op + RMS_NORM.x_stride)
    weight, adds = load_i64(op + RMS_NORM.weight), load_i64(op + RMS_NORM.add) != 0
    out, tiles = load_i64(op + RMS_NORM.out), load_i64(op + RMS_NORM.tiles)
    y = out + row * load_i64(op + RMS_NORM.out_stride)
    tile = tiles + row // TILE_ROWS * (n // BLOCK) * BLOCK_BYTES
    scale = simd.splat(inverse_rms(x, n, load_f32(load_i64(op + RMS_NORM.eps))))
    if tiles != 0:
        for i in range(first, end, BLOCK):
            low, high = _scaled(x, weight, n, i, scale), _scaled(x, weight, n, i + 16, scale)
            quantize_block(low, high, tile + i // BLOCK * BLOCK_BYTES, row % TILE_ROWS)
    if out != 0:
        for i in range(first, end, 16):
            v = _scaled(x, weight, n, i, scale)
            simd.store(y + 4 * i, simd.load(y + 4 * i) + v if adds else v)


def build_rms_norm() -> Callable[..., None]:
    """The kernel; a chunk is a tile of 8 rows, or some columns of it when there are few tiles.

    All rows of a tile share cache lines of its 8-bit form, so one thread writes them all; a row
    that others take columns of has its mean of squares computed by each of them.
    """

    def rms_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + RMS_NORM.n_rows)), load_i64(op + RMS_NORM.n)
        n_threads = load_i64(thread + 8 * T_N_THREADS)
        n_tiles = (n_rows + TILE_ROWS - 1) // TILE_ROWS
        width = n
        if n_rows > 1 and n_tiles < 2 * n_threads:
            width = max(MIN_COLUMNS, (n + n_threads - 1) // n_threads + 31) // 32 * 32
        n_parts = (n + width - 1) // width
        chunk = claim(thread, n_tiles * n_parts)
        while chunk >= 0:
            first_row, first = chunk // n_parts * TILE_ROWS, chunk % n_parts * width
            for row in range(first_row, min(first_row + TILE_ROWS, n_rows)):
                _norm_columns(op, row, first, min(first + width, n))
            chunk = claim(thread, n_tiles * n_parts)

    return rms_norm
