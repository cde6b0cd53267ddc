"""Causal depthwise short convolution over a sequence's tokens, its window in the state row.

    u[t, c]   = x[t, c] * factor[t, c]
    out[t, c] = act(bias[c] + sum over k of weight[k, c] * u[t - (K - 1) + k, c]) * gate[t, c]

Channels stand in lanes; taps are added in ascending k, so a result does not depend on how the
tokens were cut into ubatches. Used with SiLU by Mamba (Gu & Dao 2023, figure 3) and Gated
DeltaNet, with ``factor`` and ``gate`` instead by LFM2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at
from slotmux.kernels.address import load_i64
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Op,
    Rows,
    State,
    Tiles,
    Vector,
    compiled,
    given,
    keeps,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.ops.recurrent.frame import build_recurrent
from slotmux.kernels.quantize import quantize_block

CHANNELS = 128  # of a part
MAX_TAPS = 16


class Conv(Op, kernel="conv"):
    """out = act(conv(x * factor) + bias) * gate, over each sequence's tokens"""

    n_taps: int = compiled("K, 2 to MAX_TAPS")
    activation: str = compiled("silu or plain")
    x: Rows = reads("float32 [n_tokens, n]")
    factor: Rows | None = reads("float32 [n_tokens, n]; None: 1")
    gate: Rows | None = reads("float32 [n_tokens, n]; None: 1")
    weight: Vector = given("float32 [K, n rounded up to 32]")
    bias: Vector | None = given("float32 [n]; None: 0")
    out: Rows | None = writes("float32 [n_tokens, n]")
    tiles: Tiles | None = tiles_of("out")
    state: State | None = keeps(
        "float32 [K - 1, n rounded up to 32], the last K - 1 values of u, oldest first; of each "
        "draft u in such a row"
    )

    @word
    def n(self) -> int:
        """Channels."""
        return self.x.width

    @property
    def state_floats(self) -> int:
        return state_floats(self.n_taps, self.n)

    @property
    def pending_floats(self) -> int:
        return pending_floats(self.n)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_conv(self.n_taps, self.activation == "silu")


CONV = offsets(Conv)


def padded_channels(n: int) -> int:
    """Channels that weight and state have room for."""
    return -(-n // 32) * 32


def state_floats(n_taps: int, n: int) -> int:
    """Size of a sequence's window."""
    return (n_taps - 1) * padded_channels(n)


def pending_floats(n: int) -> int:
    """What is kept of a draft."""
    return padded_channels(n)


@njit(forceinline=True)
def _value_of(op, token, c):
    """u of 16 channels from c on."""
    x = load_i64(op + CONV.x) + token * load_i64(op + CONV.x_stride)
    factor = load_i64(op + CONV.factor)
    value = simd.load(x + 4 * c)
    if factor != 0:
        at = factor + token * load_i64(op + CONV.factor_stride)
        value = value * simd.load(at + 4 * c)
    return value


@njit(forceinline=True)
def _past_value(op, n_past, run, i, c, width):
    """Value i of the sequence's window (i < n_past), accepted drafts and the run's tokens."""
    value = simd.splat(np.float32(0.0))
    if i >= n_past + run.n_pending:
        value = _value_of(op, run.first + i - n_past - run.n_pending, c)
    elif i >= n_past:
        value = simd.load(run.pending + 4 * ((i - n_past) * width + c))
    elif run.fresh == 0:
        value = simd.load(run.state + 4 * (i * width + c))
    return value


@njit(forceinline=True)
def _output(op, n_taps, has_silu, run, t, c, width):
    """Output of token t of the run for 16 channels."""
    weight, bias = load_i64(op + CONV.weight), load_i64(op + CONV.bias)
    total = simd.splat(np.float32(0.0))
    if bias != 0:
        total = simd.load(bias + 4 * c)
    for k in range(n_taps):
        u = _past_value(op, n_taps - 1, run, run.n_pending + t + k, c, width)
        total = simd.fma(simd.load(weight + 4 * (k * width + c)), u, total)
    if has_silu:
        total = silu(total)
    gate = load_i64(op + CONV.gate)
    if gate != 0:
        at = gate + (run.first + t) * load_i64(op + CONV.gate_stride)
        total = total * simd.load(at + 4 * c)
    return total


@njit(forceinline=True)
def _convolve(op, n_taps, has_silu, run, c_first, c_end):
    """Outputs of a run's tokens, channels c_first to c_end."""
    n = load_i64(op + CONV.n)
    width = (n + 31) // 32 * 32
    out, tiles = load_i64(op + CONV.out), load_i64(op + CONV.tiles)
    for t in range(run.n_kept + run.n_drafts):
        row = run.first + t
        y = out + row * load_i64(op + CONV.out_stride)
        for c in range(c_first, c_end, 32):
            low = _output(op, n_taps, has_silu, run, t, c, width)
            high = low
            if c + 16 < n:
                high = _output(op, n_taps, has_silu, run, t, c + 16, width)
            if out != 0:
                simd.store(y + 4 * c, low)
                if c + 16 < n:
                    simd.store(y + 4 * c + 64, high)
            if tiles != 0:
                quantize_block(low, high, blocks_at(tiles, n, row, c), row % TILE_ROWS)


@njit(forceinline=True)
def _keep_window(op, n_past, run, c_first, c_end):
    """The window before the run's drafts (ascending: value i moves down), and the drafts."""
    n = load_i64(op + CONV.n)
    width = (n + 31) // 32 * 32
    for c in range(c_first, min(c_end, n), 16):
        for i in range(n_past):
            value = _past_value(op, n_past, run, i + run.n_pending + run.n_kept, c, width)
            simd.store(run.state + 4 * (i * width + c), value)
        for i in range(run.n_drafts):
            value = _value_of(op, run.first + run.n_kept + i, c)
            simd.store(run.pending + 4 * (i * width + c), value)


@njit
def _n_parts(op):
    return (load_i64(op + CONV.n) + CHANNELS - 1) // CHANNELS


def build_conv(n_taps: int, has_silu: bool) -> Callable[..., None]:
    """The kernel for K = ``n_taps``; its parts are groups of channels. It has its own order: every
    output is made of window, accepted drafts and tokens as they are, so drafts need no copy."""
    assert 2 <= n_taps <= MAX_TAPS

    @njit
    def visit(op, scratch, run, first_part, end_part):
        c_first = first_part * CHANNELS
        c_end = min(end_part * CHANNELS, load_i64(op + CONV.n))
        _convolve(op, n_taps, has_silu, run, c_first, c_end)
        _keep_window(op, n_taps - 1, run, c_first, c_end)

    return build_recurrent(CONV, _n_parts, visit)
