"""RMS norm of rows, with the result as float32, as 8-bit activations, or both.

y = x / sqrt(mean(x^2) + eps) * w                                   (Zhang & Sennrich 2019)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Address,
    Count,
    Op,
    Rows,
    Tiles,
    Vector,
    given,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.quantize import quantize_tile

MIN_COLUMNS = 128  # of a chunk
SEGMENT = 512  # columns of a tile of rows that are normalised, then quantised
S_ROWS = 64  # bytes of scratch before a segment: a scale of each row of a tile


class RmsNorm(Op, kernel="rms_norm"):
    """out = x / sqrt(mean(x^2) + eps) * weight, or out += that"""

    x: Rows = reads("float32 [.., n]")
    index: Address = given("int32 [n_rows], the rows to take; 0: all", default=Address(0))
    n_rows: Count = given("rows of out")
    weight: Vector | None = given("float32 [n]; None: 1")
    eps: float = given("float32")
    out: Rows | None = writes("float32 [n_rows, n], not the rows of x", reads_if="add")
    tiles: Tiles | None = tiles_of("out")
    add: bool = given("adds to out; then there are no tiles", default=False)

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    @property
    def can_quantise(self) -> bool:
        return not self.add

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_rms_norm()

    def scratch_bytes(self, isa: Isa) -> int:
        """Scales of a tile's rows, and a segment of it."""
        return S_ROWS + 4 * TILE_ROWS * SEGMENT


RMS_NORM = offsets(RmsNorm)


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
def _source(op, row):
    """Address of the input of a row."""
    index = load_i64(op + RMS_NORM.index)
    source = load_i32(index + 4 * row) if index != 0 else row
    return load_i64(op + RMS_NORM.x) + source * load_i64(op + RMS_NORM.x_stride)


@njit
def _norm_columns(op, x, scale, first, end, to):
    """Columns ``first`` to ``end`` of a row at x, normalised, to ``to`` or added to that."""
    n, weight = load_i64(op + RMS_NORM.n), load_i64(op + RMS_NORM.weight)
    adds, factor = load_i64(op + RMS_NORM.add) != 0, simd.splat(scale)
    for i in range(first, end, 16):
        v, at = load_row_vector(x, i, n) * factor, to + 4 * (i - first)
        if weight != 0:
            v = v * load_row_vector(weight, i, n)
        simd.store(at, simd.load(at) + v if adds else v)


@njit
def _norm_tile(op, row, n_rows, first, end, scratch):
    """Columns ``first`` to ``end`` of the rows of a tile."""
    n, eps = load_i64(op + RMS_NORM.n), load_f32(load_i64(op + RMS_NORM.eps))
    out, tiles = load_i64(op + RMS_NORM.out), load_i64(op + RMS_NORM.tiles)
    for i in range(n_rows):
        store_f32(scratch + 4 * i, inverse_rms(_source(op, row + i), n, eps))
    for column in range(first, end, SEGMENT):
        to, stride, width = scratch + S_ROWS, 4 * SEGMENT, min(SEGMENT, end - column)
        if out != 0:
            stride = load_i64(op + RMS_NORM.out_stride)
            to = out + row * stride + 4 * column
        for i in range(n_rows):
            x, scale = _source(op, row + i), load_f32(scratch + 4 * i)
            _norm_columns(op, x, scale, column, column + width, to + i * stride)
        if tiles != 0:
            quantize_tile(to, stride, width, n_rows, blocks_at(tiles, n, row, column))


def build_rms_norm() -> Callable[..., None]:
    """The kernel; a chunk is a tile of 8 rows, or some columns of it when there are few tiles.

    All rows of a tile share cache lines of its 8-bit form, so one thread writes them all; a row
    that others take columns of has its mean of squares computed by each of them.
    """

    def rms_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + RMS_NORM.n_rows)), load_i64(op + RMS_NORM.n)
        n_threads, scratch = load_i64(thread + 8 * T_N_THREADS), load_i64(thread + 8 * T_SCRATCH)
        n_tiles = (n_rows + TILE_ROWS - 1) // TILE_ROWS
        width = n
        if n_rows > 1 and n_tiles < 2 * n_threads:
            width = max(MIN_COLUMNS, (n + n_threads - 1) // n_threads + 31) // 32 * 32
        n_chunks = n_tile_parts(n_rows, n, width)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, width)
            _norm_tile(op, row, n_of_tile, first, end, scratch)
            chunk = claim(thread, n_chunks)

    return rms_norm
