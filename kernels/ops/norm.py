"""RMS norm of rows, with the result as float32, as 8-bit activations, or both.

y = x / sqrt(mean(x^2) + eps) * w                                   (Zhang & Sennrich 2019)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from kernels import simd
from kernels.activations import quantize_row
from kernels.address import load_f32, load_i32, load_i64
from kernels.claims import T_SCRATCH, claim
from kernels.operands import words

# x: float32 rows of x_stride bytes; index: int32 row numbers to take instead of 0, 1, ... (0:
# none); n_rows: address of the number of rows; weight: float32 [n] (0: none); eps: address of
# a float32; out: float32 rows of out_stride bytes (0: none); tiles: 8-bit activations (0: none);
# add: 1 adds to out instead of overwriting it.
RMS_NORM = words("RmsNorm", "x x_stride index n_rows n weight eps out out_stride tiles add")


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


def build_rms_norm() -> Callable[..., None]:
    """The kernel: a chunk is one row, or a tile of 8 when there are many."""

    def rms_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + RMS_NORM.n_rows))
        per_chunk = 8 if n_rows > 32 else 1
        n_chunks = (n_rows + per_chunk - 1) // per_chunk
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            n, weight = load_i64(op + RMS_NORM.n), load_i64(op + RMS_NORM.weight)
            eps = load_f32(load_i64(op + RMS_NORM.eps))
            out, tiles = load_i64(op + RMS_NORM.out), load_i64(op + RMS_NORM.tiles)
            index, scratch = load_i64(op + RMS_NORM.index), load_i64(thread + 8 * T_SCRATCH)
            for row in range(chunk * per_chunk, min(n_rows, (chunk + 1) * per_chunk)):
                source = load_i32(index + 4 * row) if index != 0 else row
                x = load_i64(op + RMS_NORM.x) + source * load_i64(op + RMS_NORM.x_stride)
                adds = load_i64(op + RMS_NORM.add) != 0
                y = out + row * load_i64(op + RMS_NORM.out_stride)
                target = scratch if adds or out == 0 else y
                rms_norm_row(x, n, weight, eps, target)
                if adds:
                    for i in range(0, n, 16):
                        simd.store(y + 4 * i, simd.load(y + 4 * i) + simd.load(scratch + 4 * i))
                if tiles != 0:
                    quantize_row(target, n, tiles, row)
            chunk = claim(thread, n_chunks)

    return rms_norm
