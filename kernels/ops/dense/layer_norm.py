"""Layer norm of rows, with the result as float32, and as 8-bit activations where they are wanted.

y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b       (Ba, Kiros & Hinton 2016)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at
from slotmux.kernels.address import load_f32, load_i32, load_i64
from slotmux.kernels.claims import claim
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
from slotmux.kernels.ops.dense.norm import load_row_vector
from slotmux.kernels.quantize import quantize_tile


class LayerNorm(Op, kernel="layer_norm"):
    """out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias"""

    x: Rows = reads("float32 [.., n]")
    index: Address = given("int32 [n_rows], the rows to take; 0: all", default=Address(0))
    n_rows: Count = given("rows of out")
    weight: Vector = given("float32 [n]")
    bias: Vector | None = given("float32 [n]; None: 0")
    eps: float = given("float32")
    out: Rows = writes("float32 [n_rows, n]")
    tiles: Tiles | None = tiles_of("out")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_layer_norm()


LAYER_NORM = offsets(LayerNorm)


@njit(forceinline=True)
def layer_norm_row(x, n, weight, bias, eps, out):
    """Normalise n floats at x into out (may be x), which has room up to a multiple of 16."""
    total = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        total = total + load_row_vector(x, i, n)
    mean = simd.splat(simd.sum_lanes(total) / np.float32(n))
    zero = simd.splat(np.float32(0.0))
    total = zero
    for i in range(0, n, 16):
        v = simd.first_lanes(simd.load(x + 4 * i) - mean, n - i, zero)
        total = simd.fma(v, v, total)
    variance = simd.sum_lanes(total) / np.float32(n)
    scale = simd.splat(np.float32(1.0) / np.sqrt(variance + eps))
    for i in range(0, n, 16):
        v = (load_row_vector(x, i, n) - mean) * scale * load_row_vector(weight, i, n)
        if bias != 0:
            v = v + load_row_vector(bias, i, n)
        simd.store(out + 4 * i, v)


@njit
def _norm_row(op, row, to):
    n, index = load_i64(op + LAYER_NORM.n), load_i64(op + LAYER_NORM.index)
    source = load_i32(index + 4 * row) if index != 0 else row
    x = load_i64(op + LAYER_NORM.x) + source * load_i64(op + LAYER_NORM.x_stride)
    weight, bias = load_i64(op + LAYER_NORM.weight), load_i64(op + LAYER_NORM.bias)
    layer_norm_row(x, n, weight, bias, load_f32(load_i64(op + LAYER_NORM.eps)), to)


def build_layer_norm() -> Callable[..., None]:
    """The kernel: a chunk is a tile of 8 rows."""

    def layer_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + LAYER_NORM.n_rows)), load_i64(op + LAYER_NORM.n)
        out, stride = load_i64(op + LAYER_NORM.out), load_i64(op + LAYER_NORM.out_stride)
        tiles = load_i64(op + LAYER_NORM.tiles)
        n_chunks = (n_rows + TILE_ROWS - 1) // TILE_ROWS
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            first = chunk * TILE_ROWS
            n_of_tile = min(TILE_ROWS, n_rows - first)
            to = out + first * stride
            for i in range(n_of_tile):
                _norm_row(op, first + i, to + i * stride)
            if tiles != 0:
                quantize_tile(to, stride, n, n_of_tile, blocks_at(tiles, n, first, 0))
            chunk = claim(thread, n_chunks)

    return layer_norm
