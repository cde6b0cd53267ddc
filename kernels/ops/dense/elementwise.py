"""Operations on rows, element by element: activations, interpolations, decays of RWKV.

Each reads up to three rows of the same width (x, y, z) and a vector over columns (v), and writes
float32 rows, which may be one of its inputs, 8-bit activations, or both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_f32, load_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Count,
    Op,
    Rows,
    Tiles,
    Vector,
    compiled,
    given,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.quantize import quantize_tile

SEGMENT = 512  # inputs of a row that a chunk covers


class Elementwise(Op, kernel="elementwise"):
    """out = formula(x, y, z, v, scalar), column by column; what a formula does not use may be None.
    ``out`` may be one of the rows that are read."""

    formula: str = compiled("one of FORMULAS")
    x: Rows = reads("float32 [n_rows, n]")
    y: Rows | None = reads("float32 [n_rows, n]", default=None)
    z: Rows | None = reads("float32 [n_rows, n]", default=None)
    v: Vector | None = given("float32 [n]", default=None)
    scalar: float = given("float32", default=1.0)
    out: Rows | None = writes("float32 [n_rows, n]")
    tiles: Tiles | None = tiles_of("out")

    @word
    def n(self) -> int:
        """Width; buffers have room up to a multiple of 16."""
        return self.x.width

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.x.n_rows

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_elementwise(self.formula)

    def scratch_bytes(self, isa: Isa) -> int:
        """A segment of a tile of rows."""
        return 4 * TILE_ROWS * SEGMENT


ELEMENTWISE = offsets(Elementwise)


@njit(forceinline=True)
def sigmoid(x):
    """1 / (1 + e^-x)"""
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    return one / (one + simd.exp(zero - x))


@njit(forceinline=True)
def tanh(x):
    """tanh per lane; Cephes tanhf: a polynomial below 0.625, then 1 - 2 / (e^2x + 1)."""
    one, two = simd.splat(np.float32(1.0)), simd.splat(np.float32(2.0))
    square = x * x
    p = simd.splat(np.float32(-5.70498872745e-3))
    p = simd.fma(p, square, simd.splat(np.float32(2.06390887954e-2)))
    p = simd.fma(p, square, simd.splat(np.float32(-5.37397155531e-2)))
    p = simd.fma(p, square, simd.splat(np.float32(1.33314422036e-1)))
    p = simd.fma(p, square, simd.splat(np.float32(-3.33332819422e-1)))
    near = simd.fma(p * square, x, x)
    far = one - two / (simd.exp(x + x) + one)
    return simd.where_less(simd.absolute(x), simd.splat(np.float32(0.625)), near, far)


@njit(forceinline=True)
def _tanh(x, y, z, v, c):
    return tanh(x)


@njit(forceinline=True)
def _sigmoid(x, y, z, v, c):
    return sigmoid(x)


@njit(forceinline=True)
def _sigmoid_bias(x, y, z, v, c):
    return sigmoid(x + v)


@njit(forceinline=True)
def _lerp(x, y, z, v, c):
    return simd.fma(y, v, x)


@njit(forceinline=True)
def _lerp_delta(x, y, z, v, c):
    return simd.fma(y, v + z, x)


@njit(forceinline=True)
def _mix_bias(x, y, z, v, c):
    return simd.fma(y - x, sigmoid(z + v), x)


@njit(forceinline=True)
def _decay(x, y, z, v, c):
    return simd.exp(simd.splat(np.float32(0.0)) - simd.exp(x + v))


@njit(forceinline=True)
def _decay_sigmoid(x, y, z, v, c):
    return simd.exp(c * sigmoid(x + v))


@njit(forceinline=True)
def _add_scaled(x, y, z, v, c):
    return simd.fma(y, c, x)


@njit(forceinline=True)
def _add_gated(x, y, z, v, c):
    return simd.fma(y, sigmoid(z), x)


@njit(forceinline=True)
def _scale(x, y, z, v, c):
    return x * c


@njit(forceinline=True)
def _silu_scaled(x, y, z, v, c):
    return silu(c * x)


@njit(forceinline=True)
def _times(x, y, z, v, c):
    return x * v


@njit(forceinline=True)
def _copy(x, y, z, v, c):
    return y


@njit(forceinline=True)
def _softcap(x, y, z, v, c):
    return c * tanh(x / c)


# name: formula, with c the scalar.
FORMULAS = {
    "tanh": _tanh,  # tanh(x)
    "sigmoid": _sigmoid,  # sigmoid(x)
    "sigmoid_bias": _sigmoid_bias,  # sigmoid(x + v)
    "lerp": _lerp,  # x + y v
    "lerp_delta": _lerp_delta,  # x + y (v + z)
    "mix_bias": _mix_bias,  # x + (y - x) sigmoid(z + v)
    "decay": _decay,  # exp(-exp(x + v))
    "decay_sigmoid": _decay_sigmoid,  # exp(c sigmoid(x + v))
    "add_scaled": _add_scaled,  # x + c y
    "add_gated": _add_gated,  # x + y sigmoid(z)
    "scale": _scale,  # c x
    "silu_scaled": _silu_scaled,  # silu(c x)
    "times": _times,  # x v
    "copy": _copy,  # y
    "softcap": _softcap,  # c tanh(x / c)
}


def build_elementwise(formula: str) -> Callable[..., None]:
    """The kernel for one of FORMULAS; a chunk is a segment of a tile of rows."""
    compute = FORMULAS[formula]

    @njit(forceinline=True)
    def vector(base, i):
        if base == 0:
            return simd.splat(np.float32(0.0))
        return simd.load(base + 4 * i)

    @njit(forceinline=True)
    def row_of(base, stride, row):
        return base + row * stride if base != 0 else base

    @njit
    def segment_of_row(op, row, first, end, to):
        x = row_of(load_i64(op + ELEMENTWISE.x), load_i64(op + ELEMENTWISE.x_stride), row)
        y = row_of(load_i64(op + ELEMENTWISE.y), load_i64(op + ELEMENTWISE.y_stride), row)
        z = row_of(load_i64(op + ELEMENTWISE.z), load_i64(op + ELEMENTWISE.z_stride), row)
        v, c = load_i64(op + ELEMENTWISE.v), load_f32(load_i64(op + ELEMENTWISE.scalar))
        for i in range(first, end, 16):
            value = compute(
                simd.load(x + 4 * i), vector(y, i), vector(z, i), vector(v, i), simd.splat(c)
            )
            simd.store(to + 4 * (i - first), value)

    def elementwise(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + ELEMENTWISE.n_rows))
        n, scratch = load_i64(op + ELEMENTWISE.n), load_i64(thread + 8 * T_SCRATCH)
        out, tiles = load_i64(op + ELEMENTWISE.out), load_i64(op + ELEMENTWISE.tiles)
        n_chunks = n_tile_parts(n_rows, n, SEGMENT)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, SEGMENT)
            to, stride = scratch, 4 * SEGMENT
            if out != 0:
                stride = load_i64(op + ELEMENTWISE.out_stride)
                to = out + row * stride + 4 * first
            for i in range(n_of_tile):
                segment_of_row(op, row + i, first, end, to + i * stride)
            if tiles != 0:
                quantize_tile(to, stride, end - first, n_of_tile, blocks_at(tiles, n, row, first))
            chunk = claim(thread, n_chunks)

    return elementwise
