"""Selective scan of Mamba (Gu & Dao 2023, algorithm 2), with what stands around it.

dt     = softplus(dt_in[t, c] + dt_bias[c])
S[c,n] = exp(dt * A[c, n]) * S[c, n] + dt * x[t, c] * B[t, n]
y[t,c] = (sum over n of S[c, n] * C[t, n] + D[c] * x[t, c]) * silu(z[t, c])
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

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
    given,
    keeps,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_bytes, copy_vectors, in_order
from slotmux.kernels.ops.recurrent.ssm_scan import DT, SEGMENT, TOKEN_BYTES, U, Y, make_scan
from slotmux.kernels.quantize import quantize_rows

# A part is 32 channels, two groups that the scan takes one after the other.
PARTS = 16  # of a chunk, of many sequences
LOG2_E = 1.4426950408889634
GROUP_TOKENS = TOKEN_BYTES * SEGMENT  # bytes of scratch that a segment's tokens of a group take


class Mamba1(Op, kernel="mamba1"):
    """out = the selective scan of x, gated by silu(z)"""

    x: Rows = reads("float32 [n_tokens, n]")
    dt: Rows = reads("float32 [n_tokens, n], before its bias and softplus")
    z: Rows = reads("float32 [n_tokens, n]")
    b: Rows = reads("float32 [n_tokens, n_state]")
    c: Rows = reads("float32 [n_tokens, n_state]", stride_of="b")
    a: Vector = given("float32, as packed_a makes it")
    d: Vector = given("float32 [n]")
    dt_bias: Vector = given("float32 [n]")
    out: Rows | None = writes("float32 [n_tokens, n]")
    tiles: Tiles | None = tiles_of("out")
    state: State | None = keeps(
        "float32 [n / 16 rounded up, n_state, 16]; of each draft [n / 16 rounded up, 32 + n_state "
        "rounded up to 16]: x, dt and B"
    )

    @word
    def n(self) -> int:
        """Channels."""
        return self.x.width

    @word
    def n_state(self) -> int:
        """States of a channel."""
        return self.b.width

    @property
    def state_floats(self) -> int:
        return state_floats(self.n, self.n_state)

    @property
    def pending_floats(self) -> int:
        return pending_floats(self.n, self.n_state)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_mamba1()

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of two groups' state, and their tokens of a segment."""
        return copy_bytes(32 * self.n_state) + 2 * GROUP_TOKENS


MAMBA1 = offsets(Mamba1)


def state_floats(n: int, n_state: int) -> int:
    """Size of a sequence's state."""
    return -(-n // 16) * 16 * n_state


def pending_floats(n: int, n_state: int) -> int:
    """What is kept of a draft: each group of channels has its own B."""
    return -(-n // 16) * (32 + -(-n_state // 16) * 16)


def packed_a(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """A [n, n_state] as the scan reads it: times log2(e), [n / 16 rounded up, n_state, 16]."""
    n, n_state = a.shape
    padded = np.zeros((-(-n // 16) * 16, n_state), np.float32)
    padded[:n] = a.astype(np.float64) * LOG2_E
    return np.ascontiguousarray(padded.reshape(-1, 16, n_state).transpose(0, 2, 1))


_scan = make_scan(decay_per_state=True)


@njit
def _prepare(op, tokens, dt, dt_stride, x, x_stride, n_tokens, c):
    """DT, U and Y of 16 channels before the scan."""
    bias, d = load_i64(op + MAMBA1.dt_bias) + 4 * c, load_i64(op + MAMBA1.d) + 4 * c
    for t in range(n_tokens):
        step_size = simd.softplus(simd.load(dt + t * dt_stride) + simd.load(bias))
        token, x_t = tokens + TOKEN_BYTES * t, simd.load(x + t * x_stride)
        simd.store(token + DT, step_size)
        simd.store(token + U, step_size * x_t)
        simd.store(token + Y, simd.load(d) * x_t)


@njit(forceinline=True)
def _gated(op, token, row, c):
    z = load_i64(op + MAMBA1.z) + row * load_i64(op + MAMBA1.z_stride)
    return simd.load(token + Y) * silu(simd.load(z + 4 * c))


@njit(forceinline=True)
def _gate_and_write(op, token, row, c):
    """Gate 32 channels of a token (16 at the end of a width that is no multiple of 32) and write
    them: to the row, and behind each other to where U and Y were."""
    n, out = load_i64(op + MAMBA1.n), load_i64(op + MAMBA1.out)
    low = _gated(op, token, row, c)
    high = low
    if c + 16 < n:
        high = _gated(op, token + GROUP_TOKENS, row, c + 16)
    if out != 0:
        at = out + row * load_i64(op + MAMBA1.out_stride) + 4 * c
        simd.store(at, low)
        if c + 16 < n:
            simd.store(at + 64, high)
    simd.store(token + U, low)
    simd.store(token + Y, high)


@njit
def _finish(op, tokens, first, n_tokens, c):
    """Gate and write 32 channels of a segment's tokens, one tile of rows after the other."""
    tiles, t = load_i64(op + MAMBA1.tiles), np.int64(0)
    while t < n_tokens:
        row, at = first + t, tokens + TOKEN_BYTES * t
        n_rows = min(n_tokens - t, TILE_ROWS - row % TILE_ROWS)
        for i in range(n_rows):
            _gate_and_write(op, at + TOKEN_BYTES * i, row + i, c)
        if tiles != 0:
            n = load_i64(op + MAMBA1.n)
            quantize_rows(at + U, TOKEN_BYTES, 32, tiles, n, row, n_rows, c)
        t += n_rows


@njit
def _scan_group(op, tokens, state, fresh, first, n_tokens, c):
    """One segment of tokens through 16 channels, whose state is at ``state``."""
    n_state, bc_stride = load_i64(op + MAMBA1.n_state), load_i64(op + MAMBA1.b_stride)
    dt_stride, x_stride = load_i64(op + MAMBA1.dt_stride), load_i64(op + MAMBA1.x_stride)
    dt = load_i64(op + MAMBA1.dt) + first * dt_stride + 4 * c
    x = load_i64(op + MAMBA1.x) + first * x_stride + 4 * c
    _prepare(op, tokens, dt, dt_stride, x, x_stride, n_tokens, c)
    a, offset = load_i64(op + MAMBA1.a) + 4 * c * n_state, first * bc_stride
    b, c_rows = load_i64(op + MAMBA1.b) + offset, load_i64(op + MAMBA1.c) + offset
    _scan(state, fresh, a, 0, 0, tokens, b, c_rows, bc_stride, n_tokens, n_state)


@njit(forceinline=True)
def _groups(op, part):
    """First channel and number of a part's groups, and bytes of a group's state."""
    n_groups = (load_i64(op + MAMBA1.n) + 15) // 16
    return 32 * part, min(2, n_groups - 2 * part), 64 * load_i64(op + MAMBA1.n_state)


@njit(forceinline=True)
def _pending_of(op, pending, c):
    """What is kept of drafts for 16 channels: of the first, and bytes to the next."""
    n_bytes = 128 + (load_i64(op + MAMBA1.n_state) + 15) // 16 * 64
    groups = (load_i64(op + MAMBA1.n) + 15) // 16
    return pending + c // 16 * n_bytes, groups * n_bytes


@njit
def _n_parts(op):
    return (load_i64(op + MAMBA1.n) + 31) // 32


@njit
def _per_chunk(op, n_runs, n_threads):
    """Of many sequences more channels at a time: their states come from memory in longer runs."""
    return np.int64(PARTS) if n_runs * _n_parts(op) >= 16 * n_threads else np.int64(1)


@njit
def _state_of(op, part):
    _, n_groups, n_bytes = _groups(op, part)
    return 2 * part * n_bytes, n_groups * n_bytes


@njit
def _apply(op, tokens, state, pending, n_pending, part):
    first, n_groups, state_bytes = _groups(op, part)
    n_state = load_i64(op + MAMBA1.n_state)
    for i in range(n_groups):
        c = first + 16 * i
        x, stride = _pending_of(op, pending, c)
        _prepare(op, tokens, x + 64, stride, x, stride, n_pending, c)
        a, b = load_i64(op + MAMBA1.a) + 4 * c * n_state, x + 128
        _scan(state + i * state_bytes, 0, a, 0, 0, tokens, b, b, stride, n_pending, n_state)


@njit
def _advance(op, tokens, state, fresh, first, n_tokens, part):
    first_channel, n_groups, state_bytes = _groups(op, part)
    for t in range(0, n_tokens, SEGMENT):
        length = min(SEGMENT, n_tokens - t)
        for i in range(n_groups):
            _scan_group(op, tokens + i * GROUP_TOKENS, state + i * state_bytes, fresh,
                        first + t, length, first_channel + 16 * i)  # fmt: skip
        _finish(op, tokens, first + t, length, first_channel)
        fresh = 0


@njit
def _keep(op, pending, first, n_drafts, part):
    """x, dt and B, of each group."""
    first_channel, n_groups, _ = _groups(op, part)
    for i in range(n_groups):
        c = first_channel + 16 * i
        to, stride = _pending_of(op, pending, c)
        for t in range(first, first + n_drafts):
            x = load_i64(op + MAMBA1.x) + t * load_i64(op + MAMBA1.x_stride) + 4 * c
            dt = load_i64(op + MAMBA1.dt) + t * load_i64(op + MAMBA1.dt_stride) + 4 * c
            b = load_i64(op + MAMBA1.b) + t * load_i64(op + MAMBA1.b_stride)
            simd.store(to, simd.load(x))
            simd.store(to + 64, simd.load(dt))
            copy_vectors(b, load_i64(op + MAMBA1.n_state), to + 128)
            to += stride


def build_mamba1() -> Callable[..., None]:
    """The kernel; its parts are 32 channels."""
    visit = in_order(_state_of, _apply, _advance, _keep)
    return build_recurrent(MAMBA1, _n_parts, visit, _per_chunk)
