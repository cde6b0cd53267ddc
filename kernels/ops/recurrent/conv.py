"""Causal depthwise short convolution over a sequence's tokens, its window in the state row.

    u[t, c]   = x[t, c] * factor[t, c]
    out[t, c] = act(bias[c] + sum over k of weight[k, c] * u[t - (K - 1) + k, c]) * gate[t, c]

Channels stand in lanes; taps are added in ascending k, so a result does not depend on how the
tokens were cut into ubatches. Used with SiLU by Mamba (Gu & Dao 2023, figure 3) and Gated
DeltaNet, with ``factor`` and ``gate`` instead by LFM2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS
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
from slotmux.kernels.quantize import quantize_rows
from slotmux.kernels.simd import fma_ir

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

    def scratch_bytes(self, isa: Isa) -> int:
        """A part's channels of a tile of tokens."""
        return 4 * CHANNELS * TILE_ROWS


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


def _make_zeros(n: int) -> Any:
    """An intrinsic: a tuple of ``n`` vectors of zeros."""

    @intrinsic
    def zeros(ctx: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return cgutils.pack_array(b, [ir.Constant(simd.F32X16, None)] * n)

        return types.UniTuple(simd.f32x16, n)(), codegen

    return zeros


@intrinsic
def _pushed(ctx: Any, window: Any, value: Any) -> Any:
    """A tuple of vectors without its first, and with ``value`` behind its last."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        window, value = args
        return cgutils.pack_array(b, [*cgutils.unpack_tuple(b, window)[1:], value])

    return window(window, value), codegen


@intrinsic
def _sum_of_taps(ctx: Any, weights: Any, window: Any, bias: Any) -> Any:
    """bias + weights[0] * window[0] + ..., in this order."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        weights, window, total = args
        taps = zip(cgutils.unpack_tuple(b, weights), cgutils.unpack_tuple(b, window), strict=True)
        for weight, value in taps:
            total = fma_ir(b, weight, value, total)
        return total

    return bias(weights, window, bias), codegen


@njit(forceinline=True)
def _convolve(op, zeros, has_silu, run, t, n_tokens, c, to, to_stride):
    """Outputs of 16 channels of ``n_tokens`` of a run's tokens from ``t`` on, to rows at ``to``;
    ``zeros``: a vector a tap. Window and weights are in registers for all of them."""
    width, n_past = (load_i64(op + CONV.n) + 31) // 32 * 32, len(zeros) - 1
    bias, gate = load_i64(op + CONV.bias), load_i64(op + CONV.gate)
    start = zeros[0] if bias == 0 else simd.load(bias + 4 * c)
    weights, window = zeros, zeros
    for k in range(n_past + 1):
        weights = _pushed(weights, simd.load(load_i64(op + CONV.weight) + 4 * (k * width + c)))
    for k in range(n_past):
        value = _past_value(op, n_past, run, run.n_pending + t + k, c, width)
        window = _pushed(window, value)
    for i in range(n_tokens):
        token = run.first + t + i
        window = _pushed(window, _value_of(op, token, c))
        total = _sum_of_taps(weights, window, start)
        if has_silu:
            total = silu(total)
        if gate != 0:
            total = total * simd.load(gate + token * load_i64(op + CONV.gate_stride) + 4 * c)
        simd.store(to + i * to_stride, total)


@njit(forceinline=True)
def _advance(op, zeros, has_silu, scratch, run, c_first, c_end):
    """Outputs of a run's tokens, channels c_first to c_end, a tile of rows after the other."""
    out, tiles = load_i64(op + CONV.out), load_i64(op + CONV.tiles)
    t, n_tokens = np.int64(0), run.n_kept + run.n_drafts
    while t < n_tokens:
        row = run.first + t
        n_rows = min(n_tokens - t, TILE_ROWS - row % TILE_ROWS)
        to, stride = scratch, np.int64(4 * CHANNELS)
        if out != 0:
            stride = load_i64(op + CONV.out_stride)
            to = out + row * stride + 4 * c_first
        for c in range(c_first, c_end, 16):
            _convolve(op, zeros, has_silu, run, t, n_rows, c, to + 4 * (c - c_first), stride)
        if tiles != 0:
            n, n_columns = load_i64(op + CONV.n), c_end - c_first
            quantize_rows(to, stride, n_columns, tiles, n, row, n_rows, c_first)
        t += n_rows


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
    zeros = _make_zeros(n_taps)

    @njit
    def visit(op, scratch, run, first_part, end_part):
        c_first = first_part * CHANNELS
        c_end = min(end_part * CHANNELS, load_i64(op + CONV.n))
        _advance(op, zeros(), has_silu, scratch, run, c_first, c_end)
        _keep_window(op, n_taps - 1, run, c_first, c_end)

    return build_recurrent(CONV, _n_parts, visit)
