"""Time mixing of RWKV-7: a delta rule with a vector-valued learning rate and decay.

    kk = l2norm(k * k_k),   k' = k * (1 + (a - 1) * k_a)
    S  = S diag(w) + (S (-kk)) (kk * a)^T + v k'^T,   out = S r
    y  = (group_norm(out) + sum(r * k' * r_k) v) * g              (Peng et al. 2025, section 4)

ARWKV (Yueyu et al. 2025) has models without the norm, and without the gate.

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
    Rows,
    Vector,
    given,
    offsets,
    reads,
)
from slotmux.kernels.ops.dense.layer_norm import layer_norm_row
from slotmux.kernels.ops.dense.norm import load_row_vector
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_vectors, in_order
from slotmux.kernels.ops.recurrent.rwkv import (
    TimeMixing,
    emit_head,
    padded,
    pending_at,
    splat_at,
    state_of_head,
)

N_KEPT = 4  # vectors of a head kept of a draft: k, v, w and a


class Wkv7(TimeMixing, kernel="wkv7"):
    """Of version 7; the state is S transposed."""

    N_KEPT, N_SCRATCH = N_KEPT, 4
    a: Rows = reads("float32 [n_tokens, n_heads * d], learning rate, 0 to 1", stride_of="r")
    k_k: Vector = given("float32 [n_heads * d]")
    k_a: Vector = given("float32 [n_heads * d]")
    r_k: Vector = given("float32 [n_heads * d]")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_wkv7()


WKV7 = offsets(Wkv7)
LEAST_NORM = np.float32(1e-12)  # of k * k_k


@njit(forceinline=True)
def _prepare(op, head, k, a, r, removed, rate, key):
    """-kk, kk * a and k' of a head, each padded(d) floats; returns sum(r * k' * r_k)."""
    d = load_i64(op + WKV7.d)
    column = 4 * head * d
    k_k, k_a = load_i64(op + WKV7.k_k) + column, load_i64(op + WKV7.k_a) + column
    r_k = load_i64(op + WKV7.r_k) + column
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    squares, bonus = zero, zero
    for i in range(0, d, 16):
        value = load_row_vector(k, i, d)
        direction = value * load_row_vector(k_k, i, d)
        squares = simd.fma(direction, direction, squares)
        simd.store(removed + 4 * i, direction)
        grown = simd.fma(load_row_vector(a, i, d) - one, load_row_vector(k_a, i, d), one)
        simd.store(key + 4 * i, value * grown)
        bonus = simd.fma(
            load_row_vector(r, i, d) * (value * grown), load_row_vector(r_k, i, d), bonus
        )
    norm = max(np.sqrt(simd.sum_lanes(squares)), LEAST_NORM)
    scale = simd.splat(np.float32(1.0) / norm)
    for i in range(0, d, 16):
        direction = simd.load(removed + 4 * i) * scale
        simd.store(rate + 4 * i, direction * load_row_vector(a, i, d))
        simd.store(removed + 4 * i, zero - direction)
    return simd.sum_lanes(bonus)


@njit(forceinline=True)
def _old(state, is_new):
    if is_new:
        return simd.splat(np.float32(0.0))
    return simd.load(state)


@njit(forceinline=True)
def _recur(state, is_new, r, k, w, rate, value, removed, acc):
    """One key channel of 16 value channels: the state moves on, acc grows by its share."""
    new = simd.fma(_old(state, is_new), w, simd.fma(removed, rate, value * k))
    simd.store(state, new)
    return simd.fma(new, r, acc)


@njit(forceinline=True)
def _columns4(state, width, d, is_new, r, k, w, removed, rate, v, y):
    """64 value channels of one token."""
    zero = simd.splat(np.float32(0.0))
    s0, s1, s2, s3 = zero, zero, zero, zero
    for i in range(0, 4 * d, 4):
        at, x = state + i * width, splat_at(removed + i)
        s0 = simd.fma(_old(at, is_new), x, s0)
        s1 = simd.fma(_old(at + 64, is_new), x, s1)
        s2 = simd.fma(_old(at + 128, is_new), x, s2)
        s3 = simd.fma(_old(at + 192, is_new), x, s3)
    v0, v1, v2, v3 = simd.load(v), simd.load(v + 64), simd.load(v + 128), simd.load(v + 192)
    a0, a1, a2, a3 = zero, zero, zero, zero
    for i in range(0, 4 * d, 4):
        at = state + i * width
        ri, ki, wi, bi = splat_at(r + i), splat_at(k + i), splat_at(w + i), splat_at(rate + i)
        a0 = _recur(at, is_new, ri, ki, wi, bi, v0, s0, a0)
        a1 = _recur(at + 64, is_new, ri, ki, wi, bi, v1, s1, a1)
        a2 = _recur(at + 128, is_new, ri, ki, wi, bi, v2, s2, a2)
        a3 = _recur(at + 192, is_new, ri, ki, wi, bi, v3, s3, a3)
    simd.store(y, a0)
    simd.store(y + 64, a1)
    simd.store(y + 128, a2)
    simd.store(y + 192, a3)


@njit(forceinline=True)
def _columns1(state, width, d, is_new, r, k, w, removed, rate, v, y):
    """16 value channels of one token."""
    total = simd.splat(np.float32(0.0))
    for i in range(0, 4 * d, 4):
        total = simd.fma(_old(state + i * width, is_new), splat_at(removed + i), total)
    value, acc = simd.load(v), simd.splat(np.float32(0.0))
    for i in range(0, 4 * d, 4):
        ri, ki, wi, bi = splat_at(r + i), splat_at(k + i), splat_at(w + i), splat_at(rate + i)
        acc = _recur(state + i * width, is_new, ri, ki, wi, bi, value, total, acc)
    simd.store(y, acc)


@njit
def _mix(op, state, is_new, head, r, k, v, w, a, y):
    """The recurrence of one token; the head's output goes to y. Returns the bonus factor."""
    d = load_i64(op + WKV7.d)
    width = padded(d)
    removed, rate, key = y + 4 * width, y + 8 * width, y + 12 * width
    bonus = _prepare(op, head, k, a, r, removed, rate, key)
    c = np.int64(0)
    while c + 64 <= width:
        at = state + 4 * c
        _columns4(at, width, d, is_new, r, key, w, removed, rate, v + 4 * c, y + 4 * c)
        c += 64
    while c < width:
        at = state + 4 * c
        _columns1(at, width, d, is_new, r, key, w, removed, rate, v + 4 * c, y + 4 * c)
        c += 16
    return bonus


@njit
def _finish_token(op, head, token, y, bonus):
    """Norm, add the token's own value, gate and write a head's output."""
    d = load_i64(op + WKV7.d)
    column = 4 * head * d
    weight, bias = load_i64(op + WKV7.ln_weight), load_i64(op + WKV7.ln_bias)
    if weight != 0:
        eps = load_f32(load_i64(op + WKV7.eps))
        layer_norm_row(y, d, weight + column, bias + column, eps, y)
    at = token * load_i64(op + WKV7.r_stride) + column
    v, g = load_i64(op + WKV7.v) + at, load_i64(op + WKV7.g)
    for i in range(0, 4 * d, 64):
        mixed = simd.fma(simd.load(v + i), simd.splat(bonus), simd.load(y + i))
        if g != 0:
            mixed = mixed * simd.load(g + at + i)
        simd.store(y + i, mixed)
    out, tiles = load_i64(op + WKV7.out), load_i64(op + WKV7.tiles)
    n_heads, out_stride = load_i64(op + WKV7.n_heads), load_i64(op + WKV7.out_stride)
    emit_head(y, d, head, n_heads, token, out, out_stride, tiles)


@njit
def _n_parts(op):
    return load_i64(op + WKV7.n_heads)


@njit
def _state_of(op, head):
    return state_of_head(load_i64(op + WKV7.d), head)


@njit
def _apply(op, y, state, pending, n_pending, head):
    d, n_heads = load_i64(op + WKV7.d), load_i64(op + WKV7.n_heads)
    for i in range(n_pending):
        k = pending_at(pending, N_KEPT, d, n_heads, head, i)
        v, w = k + 4 * padded(d), k + 8 * padded(d)
        _mix(op, state, False, head, k, k, v, w, k + 12 * padded(d), y)


@njit
def _advance(op, y, state, fresh, first, n_tokens, head):
    for t in range(n_tokens):
        token = first + t
        at = token * load_i64(op + WKV7.r_stride) + 4 * head * load_i64(op + WKV7.d)
        r, k, v = load_i64(op + WKV7.r) + at, load_i64(op + WKV7.k) + at, load_i64(op + WKV7.v) + at
        w, a = load_i64(op + WKV7.w) + at, load_i64(op + WKV7.a) + at
        bonus = _mix(op, state, fresh != 0 and t == 0, head, r, k, v, w, a, y)
        _finish_token(op, head, token, y, bonus)


@njit
def _keep(op, pending, first, n_drafts, head):
    d, n_heads = load_i64(op + WKV7.d), load_i64(op + WKV7.n_heads)
    for i in range(n_drafts):
        at, to = (first + i) * load_i64(op + WKV7.r_stride) + 4 * head * d, 4 * padded(d)
        kept = pending_at(pending, N_KEPT, d, n_heads, head, i)
        copy_vectors(load_i64(op + WKV7.k) + at, d, kept)
        copy_vectors(load_i64(op + WKV7.v) + at, d, kept + to)
        copy_vectors(load_i64(op + WKV7.w) + at, d, kept + 2 * to)
        copy_vectors(load_i64(op + WKV7.a) + at, d, kept + 3 * to)


def build_wkv7() -> Callable[..., None]:
    """The kernel; its parts are heads."""
    return build_recurrent(WKV7, _n_parts, in_order(_state_of, _apply, _advance, _keep))
