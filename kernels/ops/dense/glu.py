"""Gated activations between the two halves of a feed-forward block: out = act(gate) * up.

SiLU (Elfwing et al. 2017) as in SwiGLU (Shazeer 2020); GELU in its tanh form (Hendrycks 2016).
Without a gate half, out = act(up) with GELU or squared ReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_i64, prefetch
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    ANY_ROWS,
    Count,
    Op,
    Rows,
    Tiles,
    compiled,
    given,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.quantize import quantize_tile

ACTIVATIONS = ("silu", "gelu", "gelu_erf", "relu2", "relu")
GATED_ACTIVATIONS = (*ACTIVATIONS, "swiglu_oai")
SEGMENT, MANY_ROWS_SEGMENT = 256, 512  # inputs of a tile of rows that a chunk covers
# Rows that are asked for before they are used: with many rows inputs come from far away, in pieces
# too short for the hardware to notice. 512 rows of 4608, one Zen 5 core: 45 -> 25 cycles a vector.
ROWS_AHEAD = 2


class Glu(Op, kernel="glu"):
    """out = act(gate) * up, or act(up) without a gate"""

    activation: str = compiled("one of ACTIVATIONS")
    gate: Rows | None = reads("float32 [n_rows, n]", stride_of="up")
    up: Rows = reads("float32 [n_rows, n]")
    out: Rows | None = writes("float32 [n_rows, n]")
    tiles: Tiles | None = tiles_of("out")
    most_rows: int = given("with more it does nothing: see gated.py", default=ANY_ROWS)

    @word
    def n(self) -> int:
        """Width."""
        return self.up.width

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.up.n_rows

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_glu(self.activation)

    def scratch_bytes(self, isa: Isa) -> int:
        """A segment of a tile of rows."""
        return 4 * TILE_ROWS * MANY_ROWS_SEGMENT


GLU = offsets(Glu)


@njit(forceinline=True)
def silu(x):
    """x / (1 + e^-x)"""
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    return x / (one + simd.exp(zero - x))


@njit(forceinline=True)
def gelu(x):
    """x / (1 + e^(-2 u)), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of GELU."""
    cube = x * x * x
    u = simd.fma(cube, simd.splat(np.float32(0.044715)), x)
    u = u * simd.splat(np.float32(-1.5957691216057308))
    return x / (simd.splat(np.float32(1.0)) + simd.exp(u))


@njit(forceinline=True)
def gelu_erf(x):
    """x Phi(x), GELU itself: max(x, 0) - |x| q(|x|), with q the normal distribution's tail.

    The tail by Abramowitz & Stegun 7.1.26; largest error of the result 2e-7.
    """
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    size = simd.absolute(x)
    t = one / simd.fma(size, simd.splat(np.float32(0.3275911 * 0.7071067811865476)), one)
    p = simd.splat(np.float32(1.061405429))
    p = simd.fma(p, t, simd.splat(np.float32(-1.453152027)))
    p = simd.fma(p, t, simd.splat(np.float32(1.421413741)))
    p = simd.fma(p, t, simd.splat(np.float32(-0.284496736)))
    p = simd.fma(p, t, simd.splat(np.float32(0.254829592)))
    tail = p * t * simd.exp(x * x * simd.splat(np.float32(-0.5)))
    half = size * simd.splat(np.float32(0.5))
    return simd.maximum(zero, x) - half * tail


@njit(forceinline=True)
def relu2(x):
    """max(x, 0)^2"""
    zero = simd.splat(np.float32(0.0))
    positive = simd.maximum(zero, x)  # in this order a NaN comes through
    return positive * positive


@njit(forceinline=True)
def relu(x):
    """max(x, 0)"""
    return simd.maximum(simd.splat(np.float32(0.0)), x)


@njit(forceinline=True)
def _swiglu_oai(gate, up, has_gate):
    """min(gate, 7) * sigmoid(1.702 * that) * (clamp(up, -7, 7) + 1), as gpt-oss was published."""
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    limit = simd.splat(np.float32(7.0))
    g, u = simd.minimum(limit, gate), simd.minimum(limit, simd.maximum(zero - limit, up))
    e = simd.exp(g * simd.splat(np.float32(-1.702)))
    return g / (one + e) * (u + one)


def gated_function(name: str) -> Callable[..., Any]:
    """One of GATED_ACTIVATIONS as a Numba function (gate, up, has_gate) of vectors; without a gate
    gate is up."""
    if name == "swiglu_oai":
        return _swiglu_oai  # type: ignore[no-any-return]
    act = activation_function(name)

    @njit(forceinline=True)
    def gated(gate, up, has_gate):  # type: ignore[no-untyped-def]
        return act(gate) * up if has_gate else act(up)

    return gated  # type: ignore[no-any-return]


def activation_function(name: str) -> Callable[..., Any]:
    """One of ACTIVATIONS as a Numba function of a vector."""
    functions = {
        "silu": silu, "gelu": gelu, "gelu_erf": gelu_erf, "relu2": relu2, "relu": relu,
    }  # fmt: skip
    return functions[name]  # type: ignore[no-any-return]


def build_glu(activation: str) -> Callable[..., None]:
    """The kernel for one activation; a chunk is a segment of a tile of rows.

    All rows of a tile share cache lines of its 8-bit form, so one thread writes them all.
    """
    act = activation_function(activation)

    @njit(forceinline=True)
    def combine(gate, up):
        if gate == 0:
            return act(simd.load(up))
        return act(simd.load(gate)) * simd.load(up)

    @njit
    def segment_of_row(op, row, first, end, to):
        offset = row * load_i64(op + GLU.up_stride)
        gate, up = load_i64(op + GLU.gate), load_i64(op + GLU.up) + offset
        if gate != 0:
            gate += offset
        ahead = ROWS_AHEAD * load_i64(op + GLU.up_stride)
        for i in range(4 * first, 4 * end, 64):
            if gate != 0:
                prefetch(gate + i + ahead)
            prefetch(up + i + ahead)
            simd.store(to + i - 4 * first, combine(gate + i if gate != 0 else gate, up + i))

    @njit
    def segment_of_tile(op, row, n_rows, first, end, scratch):
        n, out, tiles = load_i64(op + GLU.n), load_i64(op + GLU.out), load_i64(op + GLU.tiles)
        x, stride = scratch, 4 * MANY_ROWS_SEGMENT
        if out != 0:
            stride = load_i64(op + GLU.out_stride)
            x = out + row * stride + 4 * first
        for i in range(n_rows):
            segment_of_row(op, row + i, first, end, x + i * stride)
        if tiles != 0:
            quantize_tile(x, stride, end - first, n_rows, blocks_at(tiles, n, row, first))

    def glu(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + GLU.n_rows))
        if n_rows > load_i64(op + GLU.most_rows):
            n_rows = 0
        n, scratch = load_i64(op + GLU.n), load_i64(thread + 8 * T_SCRATCH)
        width = SEGMENT if n_rows <= TILE_ROWS else MANY_ROWS_SEGMENT
        n_chunks = n_tile_parts(n_rows, n, width)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, width)
            segment_of_tile(op, row, n_of_tile, first, end, scratch)
            chunk = claim(thread, n_chunks)

    return glu
