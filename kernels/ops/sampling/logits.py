"""Passes over a row of logits, and the random number of a draw.

A row is read in spans of 128 values. Sums are taken span by span in ascending order: they depend
on the row alone.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_u16, store_f32, store_i32
from slotmux.kernels.bits import bits_at_least, lowest_bit, where_bits

SPAN = 128  # values
SPAN_BYTES = 4 * SPAN
# Addresses: span i stands at x + 512 * i while i < n_whole; a last one that is not whole, at
# tail, filled up with -inf.
Row = namedtuple("Row", "x n_whole n_spans tail")
LOWEST = np.float32(np.finfo(np.float32).min)
_INF = np.float32(np.inf)
_NAN = np.float32(np.nan)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53

inner = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
# For functions with one caller: Numba takes them over into it, which spares LLVM their optimisation
# by themselves. (Each function is optimised with all it calls, so deep nests compile slowly.)
inlined = njit(error_model="numpy", inline="always")


@inner
def uniform(key, position):
    """The number in [0, 1) of a draw: 53 bits of output ``position`` of SplitMix64 from ``key``.

    SplitMix64 (Steele, Lea, Flood 2014) mixes key + golden * (position + 1), so any of its
    outputs is had directly. ``key`` is the first output of SplitMix64 from the seed.
    """
    z = np.uint64(key) + _GOLDEN * np.uint64(position + 1)
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * _UNIT


@inner
def span_at(row, i):
    """Address of span i."""
    return row.x + SPAN_BYTES * i if i < row.n_whole else row.tail


@inner
def value_at(row, i):
    """Address of value i."""
    return span_at(row, i // SPAN) + 4 * (i % SPAN)


@inner
def pad(x, n, end):
    """Write -inf to values n .. end - 1."""
    for i in range(n, end):
        store_f32(x + 4 * i, -_INF)


@inner
def plain_row(x, n, tail):
    """n logits where they stand; their last part span is copied to ``tail``."""
    n_whole = n // SPAN
    n_rest = n - n_whole * SPAN
    if n_rest == 0:
        return Row(x, n_whole, n_whole, tail)
    for i in range(n_rest):
        store_f32(tail + 4 * i, load_f32(x + SPAN_BYTES * n_whole + 4 * i))
    pad(tail, n_rest, SPAN)
    return Row(x, n_whole, n_whole + 1, tail)


@inner
def copied_row(row, n, mask, copy):
    """A copy of n logits that may be changed; -inf is added where ``mask`` (0: none) has no bit.

    ``mask``: bit i % 8 of byte i // 8 allows token i. Adding keeps a NaN visible.
    """
    zero, banned = simd.splat(np.float32(0.0)), simd.splat(-_INF)
    for i in range(row.n_spans):
        at, to = span_at(row, i), copy + SPAN_BYTES * i
        for j in range(SPAN // 16):
            v = simd.load(at + 64 * j)
            if mask != 0 and SPAN * i + 16 * j < n:
                v = v + where_bits(load_u16(mask + 16 * i + 2 * j), zero, banned)
            simd.store(to + 64 * j, v)
    return Row(copy, row.n_spans, row.n_spans, copy)


@inner
def span_maxima(row, maxima):
    """Store each span's largest value; the largest of all, or NaN when a value is NaN or inf."""
    top = -_INF
    zero, one, inf = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0)), simd.splat(_INF)
    bad = zero
    for i in range(row.n_spans):
        at = span_at(row, i)
        largest = simd.splat(-_INF)
        for j in range(SPAN // 16):
            v = simd.load(at + 64 * j)
            largest = simd.maximum(v, largest)
            bad = simd.maximum(bad, simd.where_less(v, inf, zero, one))
        value = simd.max_lanes(largest)
        store_f32(maxima + 4 * i, value)
        if value > top:
            top = value
    if simd.max_lanes(bad) > np.float32(0.0):
        return _NAN
    return top


@inner
def span_sums(row, top, factor, sums):
    """Store each span's sum of exp((value - top) * factor); the sum of all, in float64."""
    total = 0.0
    tops, factors = simd.splat(top), simd.splat(factor)
    for i in range(row.n_spans):
        at = span_at(row, i)
        part = simd.splat(np.float32(0.0))
        for j in range(SPAN // 16):
            part = part + simd.exp((simd.load(at + 64 * j) - tops) * factors)
        value = simd.sum_lanes(part)
        store_f32(sums + 4 * i, value)
        total += np.float64(value)
    return total


@inner
def exponentials(x, n, top, out):
    """out[i] = exp(x[i] - top) for n values; both have room up to a multiple of 16."""
    tops = simd.splat(top)
    for i in range(0, n, 16):
        simd.store(out + 4 * i, simd.exp(simd.load(x + 4 * i) - tops))


@inner
def first_largest(row, top, maxima):
    """Index of the first value that equals ``top``, the largest."""
    i = 0
    while load_f32(maxima + 4 * i) < top:
        i += 1
    at = span_at(row, i)
    j = 0
    while load_f32(at + 4 * j) < top:
        j += 1
    return SPAN * i + j


@inner
def draw(row, top, factor, sums, target, terms):
    """Index of the value at which the running sum of ``span_sums`` passes ``target``.

    ``terms``: room for a span. A target that rounding has put past the end takes the last value
    that has any weight; -1 when none has.
    """
    before, total, last = 0.0, 0.0, -1
    for i in range(row.n_spans):
        weight = load_f32(sums + 4 * i)
        if weight > np.float32(0.0):
            last, before = i, total
            total += weight
            if total > target:
                break
    if last < 0:
        return np.int64(-1)
    at = span_at(row, last)
    for j in range(SPAN // 16):
        scaled = (simd.load(at + 64 * j) - simd.splat(top)) * simd.splat(factor)
        simd.store(terms + 64 * j, simd.exp(scaled))
    found = 0
    for j in range(SPAN):
        weight = load_f32(terms + 4 * j)
        if weight > np.float32(0.0):
            found = j
            before += weight
            if before > target:
                break
    return SPAN * last + found


@inner
def gather(row, maxima, floor, ids, values):
    """List index and value of everything that is at least ``floor``; how many that are."""
    n = 0
    floors = simd.splat(floor)
    for i in range(row.n_spans):
        if load_f32(maxima + 4 * i) >= floor:
            at = span_at(row, i)
            for j in range(SPAN // 16):
                bits = bits_at_least(simd.load(at + 64 * j), floors)
                while bits != 0:
                    lane = lowest_bit(bits)
                    bits &= bits - 1
                    store_i32(ids + 4 * n, SPAN * i + 16 * j + lane)
                    store_f32(values + 4 * n, load_f32(at + 64 * j + 4 * lane))
                    n += 1
    return n
