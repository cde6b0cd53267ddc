"""xIELU of rows (Huang & Schlag 2024): a parabola above zero, below it an exponential minus a line.

out = p x^2 + b x                              x > 0
out = n (e^min(x, m) - 1 - x) + b x            else
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
    given,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.quantize import quantize_tile

SEGMENT = 512  # inputs of a row that a chunk covers


class Xielu(Op, kernel="xielu"):
    """out = xielu(x), column by column"""

    x: Rows = reads("float32 [n_rows, n]")
    alpha_p: float = given("float32, p")
    alpha_n: float = given("float32, n")
    beta: float = given("float32, b")
    most: float = given("float32, m, just below zero")
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
        return build_xielu()

    def scratch_bytes(self, isa: Isa) -> int:
        """A segment of a tile of rows."""
        return 4 * TILE_ROWS * SEGMENT


XIELU = offsets(Xielu)


@njit
def _row(op, x, n, to):
    """n floats at x to ``to``."""
    p = simd.splat(load_f32(load_i64(op + XIELU.alpha_p)))
    a = simd.splat(load_f32(load_i64(op + XIELU.alpha_n)))
    b = simd.splat(load_f32(load_i64(op + XIELU.beta)))
    most = simd.splat(load_f32(load_i64(op + XIELU.most)))
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for i in range(0, n, 16):
        v = simd.load(x + 4 * i)
        above = p * v * v
        below = a * (simd.exp(simd.minimum(most, v)) - one - v)
        simd.store(to + 4 * i, simd.fma(b, v, simd.where_less(zero, v, above, below)))


def build_xielu() -> Callable[..., None]:
    """The kernel; a chunk is a segment of a tile of rows."""

    def xielu(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + XIELU.n_rows)), load_i64(op + XIELU.n)
        out, tiles = load_i64(op + XIELU.out), load_i64(op + XIELU.tiles)
        x_stride, scratch = load_i64(op + XIELU.x_stride), load_i64(thread + 8 * T_SCRATCH)
        n_chunks = n_tile_parts(n_rows, n, SEGMENT)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, SEGMENT)
            to, stride = scratch, 4 * SEGMENT
            if out != 0:
                stride = load_i64(op + XIELU.out_stride)
                to = out + row * stride + 4 * first
            for i in range(n_of_tile):
                x = load_i64(op + XIELU.x) + (row + i) * x_stride + 4 * first
                _row(op, x, end - first, to + i * stride)
            if tiles != 0:
                quantize_tile(to, stride, end - first, n_of_tile, blocks_at(tiles, n, row, first))
            chunk = claim(thread, n_chunks)

    return xielu
