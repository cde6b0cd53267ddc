"""Time mixing of RWKV-6: a matrix-valued state per head with a decay for each key channel.

    out_t = (S + u k_t v_t^T)^T r_t,   S = diag(w_t) S + k_t v_t^T
    y_t   = group_norm(out_t) * silu(g_t)                       (Peng et al. 2024, section 4.2)

Value channels stand in lanes; sums over key channels go in ascending order, token by token, so
that the result does not depend on ubatch cuts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Vector,
    given,
    offsets,
)
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.ops.dense.layer_norm import layer_norm_row
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_vectors, in_order
from slotmux.kernels.ops.recurrent.rwkv import (
    TimeMixing,
    emit_head,
    padded,
    pending_at,
    splat_at,
    state_of_head,
)

N_KEPT = 3  # vectors of a head kept of a draft: k, v and w


class Wkv6(TimeMixing, kernel="wkv6"):
    """Of version 6: g is the gate before its SiLU."""

    N_KEPT, N_SCRATCH = N_KEPT, 1
    u: Vector = given("float32 [n_heads, d]")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_wkv6()


WKV6 = offsets(Wkv6)


@njit(forceinline=True)
def _recur(state, is_new, r, k, w, u, value, acc):
    """One key channel of 16 value channels: the state moves on, acc grows by its share."""
    old = simd.splat(np.float32(0.0))
    if not is_new:
        old = simd.load(state)
    kv = k * value
    simd.store(state, simd.fma(w, old, kv))
    return simd.fma(r, simd.fma(u, kv, old), acc)


@njit(forceinline=True)
def _columns4(state, width, d, is_new, r, k, w, u, v, y):
    """64 value channels of one token."""
    zero = simd.splat(np.float32(0.0))
    v0, v1, v2, v3 = simd.load(v), simd.load(v + 64), simd.load(v + 128), simd.load(v + 192)
    a0, a1, a2, a3 = zero, zero, zero, zero
    for i in range(0, 4 * d, 4):
        ri, ki, wi, ui = splat_at(r + i), splat_at(k + i), splat_at(w + i), splat_at(u + i)
        at = state + i * width
        a0 = _recur(at, is_new, ri, ki, wi, ui, v0, a0)
        a1 = _recur(at + 64, is_new, ri, ki, wi, ui, v1, a1)
        a2 = _recur(at + 128, is_new, ri, ki, wi, ui, v2, a2)
        a3 = _recur(at + 192, is_new, ri, ki, wi, ui, v3, a3)
    simd.store(y, a0)
    simd.store(y + 64, a1)
    simd.store(y + 128, a2)
    simd.store(y + 192, a3)


@njit(forceinline=True)
def _columns1(state, width, d, is_new, r, k, w, u, v, y):
    """16 value channels of one token."""
    value, acc = simd.load(v), simd.splat(np.float32(0.0))
    for i in range(0, 4 * d, 4):
        at = state + i * width
        ri, ki, wi, ui = splat_at(r + i), splat_at(k + i), splat_at(w + i), splat_at(u + i)
        acc = _recur(at, is_new, ri, ki, wi, ui, value, acc)
    simd.store(y, acc)


@njit
def _mix(op, state, is_new, head, r, k, v, w, y):
    """The recurrence of one token; the head's output goes to y."""
    d = load_i64(op + WKV6.d)
    width, u = padded(d), load_i64(op + WKV6.u) + 4 * head * d
    c = np.int64(0)
    while c + 64 <= width:
        _columns4(state + 4 * c, width, d, is_new, r, k, w, u, v + 4 * c, y + 4 * c)
        c += 64
    while c < width:
        _columns1(state + 4 * c, width, d, is_new, r, k, w, u, v + 4 * c, y + 4 * c)
        c += 16


@njit
def _finish_token(op, head, token, y):
    """Norm, gate and write a head's output."""
    d, stride = load_i64(op + WKV6.d), load_i64(op + WKV6.r_stride)
    weight = load_i64(op + WKV6.ln_weight) + 4 * head * d
    bias = load_i64(op + WKV6.ln_bias) + 4 * head * d
    layer_norm_row(y, d, weight, bias, load_f32(load_i64(op + WKV6.eps)), y)
    g = load_i64(op + WKV6.g) + token * stride + 4 * head * d
    for i in range(0, 4 * d, 64):
        simd.store(y + i, simd.load(y + i) * silu(simd.load(g + i)))
    out, tiles = load_i64(op + WKV6.out), load_i64(op + WKV6.tiles)
    n_heads, out_stride = load_i64(op + WKV6.n_heads), load_i64(op + WKV6.out_stride)
    emit_head(y, d, head, n_heads, token, out, out_stride, tiles)


@njit
def _n_parts(op):
    return load_i64(op + WKV6.n_heads)


@njit
def _state_of(op, head):
    return state_of_head(load_i64(op + WKV6.d), head)


@njit
def _apply(op, y, state, pending, n_pending, head):
    d, n_heads = load_i64(op + WKV6.d), load_i64(op + WKV6.n_heads)
    for i in range(n_pending):
        k = pending_at(pending, N_KEPT, d, n_heads, head, i)
        v = k + 4 * padded(d)
        _mix(op, state, False, head, k, k, v, v + 4 * padded(d), y)


@njit
def _advance(op, y, state, fresh, first, n_tokens, head):
    for t in range(n_tokens):
        token = first + t
        at = token * load_i64(op + WKV6.r_stride) + 4 * head * load_i64(op + WKV6.d)
        r, k, v = load_i64(op + WKV6.r) + at, load_i64(op + WKV6.k) + at, load_i64(op + WKV6.v) + at
        is_new = fresh != 0 and t == 0
        _mix(op, state, is_new, head, r, k, v, load_i64(op + WKV6.w) + at, y)
        _finish_token(op, head, token, y)


@njit
def _keep(op, pending, first, n_drafts, head):
    d, n_heads = load_i64(op + WKV6.d), load_i64(op + WKV6.n_heads)
    for i in range(n_drafts):
        at, to = (first + i) * load_i64(op + WKV6.r_stride) + 4 * head * d, 4 * padded(d)
        kept = pending_at(pending, N_KEPT, d, n_heads, head, i)
        copy_vectors(load_i64(op + WKV6.k) + at, d, kept)
        copy_vectors(load_i64(op + WKV6.v) + at, d, kept + to)
        copy_vectors(load_i64(op + WKV6.w) + at, d, kept + 2 * to)


def build_wkv6() -> Callable[..., None]:
    """The kernel; its parts are heads."""
    return build_recurrent(WKV6, _n_parts, in_order(_state_of, _apply, _advance, _keep))
