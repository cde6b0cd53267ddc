"""Gated linear attention (Yang et al. 2023), which RWKV-6 layers in Qwen2's place compute.

    S_t = diag(w_t) S_{t-1} + ((1 - w_t) * k_t) v_t^T,   out_t = S_t^T r_t / sqrt(d)
    y_t = out_t * sigmoid(g_t)

Groups of heads share k and v. Value channels stand in lanes; sums over key channels go in
ascending order, token by token, so that the result does not depend on ubatch cuts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i64
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Op,
    Rows,
    State,
    Tiles,
    given,
    keeps,
    offsets,
    reads,
    round_up,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.ops.dense.elementwise import sigmoid
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_bytes, copy_vectors, in_order
from slotmux.kernels.ops.recurrent.rwkv import (
    emit_head,
    padded,
    pending_at,
    pending_floats,
    splat_at,
    state_of_head,
)

N_KEPT = 3  # vectors of a head kept of a draft: k, v and w


class GatedLinear(Op, kernel="gated_linear"):
    """out = the recurrence over r, k and v, gated"""

    d: int = given("width of a head")
    r: Rows = reads("float32 [n_tokens, n_heads * d]")
    w: Rows = reads("float32 [n_tokens, n_heads * d], decay, 0 to 1", stride_of="r")
    g: Rows = reads("float32 [n_tokens, n_heads * d], the gate before its sigmoid", stride_of="r")
    k: Rows = reads("float32 [n_tokens, n_heads / n_shared * d]")
    v: Rows = reads("float32 [n_tokens, n_heads / n_shared * d]", stride_of="k")
    out: Rows | None = writes("float32 [n_tokens, n_heads * d]")
    tiles: Tiles | None = tiles_of("out")
    state: State | None = keeps(
        "float32 [n_heads, d (key), d (value) rounded up to 16]; of each draft [n_heads, N_KEPT, d "
        "rounded up to 16]"
    )

    @word
    def n_heads(self) -> int:
        """Heads."""
        return self.r.width // self.d

    @word
    def n_shared(self) -> int:
        """Heads that share k and v."""
        return self.r.width // self.k.width

    @property
    def can_quantise(self) -> bool:
        return self.d % 32 == 0  # else 8-bit blocks would span heads

    @property
    def state_floats(self) -> int:
        return self.n_heads * self.d * round_up(self.d, 16)

    @property
    def pending_floats(self) -> int:
        return pending_floats(N_KEPT, self.n_heads, self.d)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_gated_linear()

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of a head's state, and its output."""
        width = round_up(self.d, 16)
        return copy_bytes(self.d * width) + 4 * width


GATED_LINEAR = offsets(GatedLinear)


@njit(forceinline=True)
def _recur(state, is_new, r, k, w, value, acc):
    """One key channel of 16 value channels: the state moves on, acc grows by its share."""
    new = k * value
    if not is_new:
        new = simd.fma(w, simd.load(state), new)
    simd.store(state, new)
    return simd.fma(r, new, acc)


@njit(forceinline=True)
def _channel(r, k, w, i):
    """A key channel's r, (1 - w) k and w in all lanes."""
    decay = splat_at(w + i)
    return splat_at(r + i), (simd.splat(np.float32(1.0)) - decay) * splat_at(k + i), decay


@njit(forceinline=True)
def _columns4(state, width, d, is_new, r, k, w, v, y):
    """64 value channels of one token."""
    zero = simd.splat(np.float32(0.0))
    v0, v1, v2, v3 = simd.load(v), simd.load(v + 64), simd.load(v + 128), simd.load(v + 192)
    a0, a1, a2, a3 = zero, zero, zero, zero
    for i in range(0, 4 * d, 4):
        ri, ki, wi = _channel(r, k, w, i)
        at = state + i * width
        a0 = _recur(at, is_new, ri, ki, wi, v0, a0)
        a1 = _recur(at + 64, is_new, ri, ki, wi, v1, a1)
        a2 = _recur(at + 128, is_new, ri, ki, wi, v2, a2)
        a3 = _recur(at + 192, is_new, ri, ki, wi, v3, a3)
    simd.store(y, a0)
    simd.store(y + 64, a1)
    simd.store(y + 128, a2)
    simd.store(y + 192, a3)


@njit(forceinline=True)
def _columns1(state, width, d, is_new, r, k, w, v, y):
    """16 value channels of one token."""
    value, acc = simd.load(v), simd.splat(np.float32(0.0))
    for i in range(0, 4 * d, 4):
        ri, ki, wi = _channel(r, k, w, i)
        acc = _recur(state + i * width, is_new, ri, ki, wi, value, acc)
    simd.store(y, acc)


@njit
def _mix(d, state, is_new, r, k, v, w, y):
    """The recurrence of one token; the head's output, not scaled yet, goes to y."""
    width, c = padded(d), np.int64(0)
    while c + 64 <= width:
        _columns4(state + 4 * c, width, d, is_new, r, k, w, v + 4 * c, y + 4 * c)
        c += 64
    while c < width:
        _columns1(state + 4 * c, width, d, is_new, r, k, w, v + 4 * c, y + 4 * c)
        c += 16


@njit
def _finish_token(op, head, token, y):
    """Scale, gate and write a head's output."""
    d = load_i64(op + GATED_LINEAR.d)
    scale = simd.splat(np.float32(1.0) / np.sqrt(np.float32(d)))
    g = load_i64(op + GATED_LINEAR.g) + token * load_i64(op + GATED_LINEAR.r_stride) + 4 * head * d
    for i in range(0, 4 * d, 64):
        simd.store(y + i, simd.load(y + i) * scale * sigmoid(simd.load(g + i)))
    out, tiles = load_i64(op + GATED_LINEAR.out), load_i64(op + GATED_LINEAR.tiles)
    n_heads, stride = load_i64(op + GATED_LINEAR.n_heads), load_i64(op + GATED_LINEAR.out_stride)
    emit_head(y, d, head, n_heads, token, out, stride, tiles)


@njit(forceinline=True)
def _inputs_at(op, head, token):
    """Bytes into the rows of r, w and g, and of k and v, where a head's values of a token are."""
    d, group = load_i64(op + GATED_LINEAR.d), head // load_i64(op + GATED_LINEAR.n_shared)
    own = token * load_i64(op + GATED_LINEAR.r_stride) + 4 * head * d
    return own, token * load_i64(op + GATED_LINEAR.k_stride) + 4 * group * d


@njit
def _n_parts(op):
    return load_i64(op + GATED_LINEAR.n_heads)


@njit
def _state_of(op, head):
    return state_of_head(load_i64(op + GATED_LINEAR.d), head)


@njit
def _apply(op, y, state, pending, n_pending, head):
    d, n_heads = load_i64(op + GATED_LINEAR.d), load_i64(op + GATED_LINEAR.n_heads)
    for i in range(n_pending):
        k = pending_at(pending, N_KEPT, d, n_heads, head, i)
        v = k + 4 * padded(d)
        _mix(d, state, False, k, k, v, v + 4 * padded(d), y)


@njit
def _advance(op, y, state, fresh, first, n_tokens, head):
    for t in range(n_tokens):
        own, shared = _inputs_at(op, head, first + t)
        r, w = load_i64(op + GATED_LINEAR.r) + own, load_i64(op + GATED_LINEAR.w) + own
        k, v = load_i64(op + GATED_LINEAR.k) + shared, load_i64(op + GATED_LINEAR.v) + shared
        _mix(load_i64(op + GATED_LINEAR.d), state, fresh != 0 and t == 0, r, k, v, w, y)
        _finish_token(op, head, first + t, y)


@njit
def _keep(op, pending, first, n_drafts, head):
    d, n_heads = load_i64(op + GATED_LINEAR.d), load_i64(op + GATED_LINEAR.n_heads)
    for i in range(n_drafts):
        own, shared = _inputs_at(op, head, first + i)
        to, kept = 4 * padded(d), pending_at(pending, N_KEPT, d, n_heads, head, i)
        copy_vectors(load_i64(op + GATED_LINEAR.k) + shared, d, kept)
        copy_vectors(load_i64(op + GATED_LINEAR.v) + shared, d, kept + to)
        copy_vectors(load_i64(op + GATED_LINEAR.w) + own, d, kept + 2 * to)


def build_gated_linear() -> Callable[..., None]:
    """The kernel; its parts are heads."""
    visit = in_order(_state_of, _apply, _advance, _keep)
    return build_recurrent(GATED_LINEAR, _n_parts, visit)
