"""Gated activations between the two halves of a feed-forward block: out = act(gate) * up.

SiLU (Elfwing et al. 2017) as in SwiGLU (Shazeer 2020); GELU in its tanh form (Hendrycks 2016).
Without a gate half, out = act(up) with GELU or squared ReLU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from kernels import simd
from kernels.activations import BLOCK_BYTES, TILE_ROWS, quantize_block
from kernels.address import load_i64
from kernels.claims import claim
from kernels.operands import words

# gate, up: float32 rows of stride bytes (gate 0: none); n: width; n_rows: address of the number
# of rows; out: float32 rows of out_stride bytes (0: none); tiles: 8-bit activations (0: none).
GLU = words("Glu", "gate up stride n n_rows out out_stride tiles")
ACTIVATIONS = ("silu", "gelu", "relu2")
SEGMENT = 256  # inputs of a tile of rows that a chunk covers


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
def relu2(x):
    """max(x, 0)^2"""
    zero = simd.splat(np.float32(0.0))
    positive = simd.maximum(zero, x)  # in this order a NaN comes through
    return positive * positive


def build_glu(activation: str) -> Callable[..., None]:
    """The kernel for one activation; a chunk is a segment of a tile of rows.

    All rows of a tile share cache lines of its 8-bit form, so one thread writes them all.
    """
    act = {"silu": silu, "gelu": gelu, "relu2": relu2}[activation]

    @njit(forceinline=True)
    def combine(gate, up):
        if gate == 0:
            return act(simd.load(up))
        return act(simd.load(gate)) * simd.load(up)

    @njit
    def segment_of_row(op, row, first, end):
        n, offset = load_i64(op + GLU.n), row * load_i64(op + GLU.stride)
        gate, up = load_i64(op + GLU.gate), load_i64(op + GLU.up) + offset
        out, tiles = load_i64(op + GLU.out), load_i64(op + GLU.tiles)
        if gate != 0:
            gate += offset
        tile = tiles + row // TILE_ROWS * (n // 32) * BLOCK_BYTES
        for i in range(first, end, 32):
            step_gate = gate + 4 * i if gate != 0 else np.int64(0)
            low = combine(step_gate, up + 4 * i)
            high = low
            if i + 16 < n:
                next_gate = step_gate + 64 if gate != 0 else np.int64(0)
                high = combine(next_gate, up + 4 * i + 64)
            if out != 0:
                at = out + row * load_i64(op + GLU.out_stride) + 4 * i
                simd.store(at, low)
                if i + 16 < n:
                    simd.store(at + 64, high)
            if tiles != 0:
                quantize_block(low, high, tile + i // 32 * BLOCK_BYTES, row % TILE_ROWS)

    def glu(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + GLU.n_rows))
        n = load_i64(op + GLU.n)
        n_segments = (n + SEGMENT - 1) // SEGMENT
        n_chunks = (n_rows + TILE_ROWS - 1) // TILE_ROWS * n_segments
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            first_row, first = chunk // n_segments * TILE_ROWS, chunk % n_segments * SEGMENT
            for row in range(first_row, min(first_row + TILE_ROWS, n_rows)):
                segment_of_row(op, row, first, min(first + SEGMENT, n))
            chunk = claim(thread, n_chunks)

    return glu
