"""Scores of one chunk to the terms of its softmax: e^(score - m), and what they add up to.

First the maxima of all rows of a tile, then their terms: the steps of one row wait for each other,
those of several do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, store_f32
from slotmux.kernels.ops.attention.tiles import CHUNK
from slotmux.kernels.simd import F32X16, I32X16, const_ir, f32x16

LOW = np.float32(-1e30)  # below every score; not infinite, so that differences stay finite
UNSEEN = np.float32(-3e38)  # of what a row has not chosen: its term is 0 also where m is LOW
_N_VECTORS = CHUNK // 16


@intrinsic
def _shift_exponent(ctx: Any, x: Any, n: Any) -> Any:
    """x * 2**n for a vector n of whole numbers, where that is a normal number."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        bits = b.shl(b.fptosi(args[1], I32X16), const_ir(23, I32X16))
        return b.bitcast(b.add(b.bitcast(args[0], I32X16), bits), F32X16)

    return f32x16(f32x16, f32x16), codegen


@njit(forceinline=True)
def exp_below_zero(x):
    """``simd.exp`` for x <= 0 in 16 steps instead of 24: the same bits, but 0 below -86.5, where
    little is left that is no denormal number. NaN stays NaN."""
    n = simd.round_even(x * simd.splat(np.float32(1.44269504088896341)))
    r = simd.fma(n, simd.splat(np.float32(-0.693359375)), x)
    r = simd.fma(n, simd.splat(np.float32(2.12194440e-4)), r)
    p = simd.splat(np.float32(1.9875691500e-4))
    p = simd.fma(p, r, simd.splat(np.float32(1.3981999507e-3)))
    p = simd.fma(p, r, simd.splat(np.float32(8.3334519073e-3)))
    p = simd.fma(p, r, simd.splat(np.float32(4.1665795894e-2)))
    p = simd.fma(p, r, simd.splat(np.float32(1.6666665459e-1)))
    p = simd.fma(p, r, simd.splat(np.float32(5.0000001201e-1)))
    p = simd.fma(p, r * r, r + simd.splat(np.float32(1.0)))
    lowest, zero = simd.splat(np.float32(-86.5)), simd.splat(np.float32(0.0))
    return simd.where_less(x, lowest, zero, _shift_exponent(p, n))


@njit(forceinline=True)
def _is_seen(seen_from, seen_to, n_blocks):
    """Whether every position of the chunk is."""
    return seen_from <= 0 and seen_to >= CHUNK and n_blocks == _N_VECTORS


@njit(forceinline=True)
def _masked(x, i, seen_from, seen_to, other):
    """Block ``i`` of a row, ``other`` at positions that are not seen."""
    if 16 * i + 16 > seen_to:
        x = simd.first_lanes(x, seen_to - 16 * i, other)
    if 16 * i < seen_from:
        x = simd.first_lanes(other, seen_from - 16 * i, x)
    return x


@njit
def largest_score(scores, seen_from, seen_to, n_blocks, m_at):
    """The largest of a row's scores at cells seen_from .. seen_to of the chunk, or LOW, to m_at;
    LOW to the other scores."""
    low = simd.splat(LOW)
    largest = low
    if _is_seen(seen_from, seen_to, n_blocks):
        for i in range(_N_VECTORS):
            largest = simd.maximum(largest, simd.load(scores + 64 * i))
    else:
        for i in range(n_blocks):
            s = _masked(simd.load(scores + 64 * i), i, seen_from, seen_to, low)
            simd.store(scores + 64 * i, s)
            largest = simd.maximum(largest, s)
    store_f32(m_at, max(simd.max_lanes(largest), LOW))


@njit
def softmax_terms(scores, seen_from, seen_to, n_blocks, m_at, l_at):
    """Scores s that ``largest_score`` has seen to e^(s - m), in place, 0 at positions that are not
    seen; their sum to l_at."""
    m, zero = simd.splat(load_f32(m_at)), simd.splat(np.float32(0.0))
    total = zero
    if _is_seen(seen_from, seen_to, n_blocks):
        for i in range(_N_VECTORS):
            p = exp_below_zero(simd.load(scores + 64 * i) - m)
            simd.store(scores + 64 * i, p)
            total = total + p
    else:
        for i in range(n_blocks):
            p = exp_below_zero(simd.load(scores + 64 * i) - m)
            # Exactly zero also where every position is masked (m = LOW).
            p = _masked(p, i, seen_from, seen_to, zero)
            simd.store(scores + 64 * i, p)
            total = total + p
    store_f32(l_at, simd.sum_lanes(total))
