"""Scores of experts from a router's logits, and taking the best of them.

softmax and sigmoid score all experts; with "chosen" logits are the scores, and weights are the
softmax of those that were chosen (gpt-oss). With "sparsemixer" logits are the scores, and the
weight of each choice is its softmax over those not chosen before that come near it (Phi-3.5-MoE).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, store_f32
from slotmux.kernels.bits import bits_at_least, lowest_bit

SCORES = ("softmax", "sigmoid", "chosen", "sparsemixer")
REACH = 0.02  # twice the jitter that Phi's routers were trained with
# Least sum of weights to divide by: float16's smallest normal number, as llama.cpp has it.
LEAST_SUM = 6.103515625e-5
NEVER = -np.inf


@njit(forceinline=True)
def _padded(x, i, n):
    """Floats i .. i + 15 of a row of n, minus infinity past its end."""
    value = simd.load(x + 4 * i)
    if i + 16 > n:
        value = simd.first_lanes(value, n - i, simd.splat(np.float32(NEVER)))
    return value


@njit(forceinline=True)
def _softmax(logits, n, out):
    """Softmax of n floats into out, padded with zeros."""
    top = simd.splat(np.float32(NEVER))
    for i in range(0, n, 16):
        top = simd.maximum(_padded(logits, i, n), top)
    top = simd.splat(simd.max_lanes(top))
    total = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        value = simd.exp(_padded(logits, i, n) - top)
        total = total + value
        simd.store(out + 4 * i, value)
    total = simd.splat(simd.sum_lanes(total))
    for i in range(0, n, 16):
        simd.store(out + 4 * i, simd.load(out + 4 * i) / total)


@njit(forceinline=True)
def _sigmoid(logits, n, out):
    """1 / (1 + e^-x) of n floats into out."""
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for i in range(0, n, 16):
        simd.store(out + 4 * i, one / (one + simd.exp(zero - _padded(logits, i, n))))


@njit
def take_best(ranking, n):
    """Number of the largest of n floats (the first of equals; 0 when all are NaN), then struck
    off."""
    top = simd.splat(np.float32(NEVER))
    for i in range(0, n, 16):
        top = simd.maximum(simd.load(ranking + 4 * i), top)
    best = simd.splat(simd.max_lanes(top))
    for i in range(0, n, 16):
        bits = bits_at_least(simd.load(ranking + 4 * i), best)
        if bits != 0:
            found = i + lowest_bit(bits)
            store_f32(ranking + 4 * found, np.float32(NEVER))
            return min(found, n - 1)
    return np.int64(0)


@njit(forceinline=True)
def _as_they_are(logits, n, out):
    """n floats into out, padded with minus infinity."""
    for i in range(0, n, 16):
        simd.store(out + 4 * i, _padded(logits, i, n))


def score_function(name: str) -> Callable[..., Any]:
    """One of SCORES as a Numba function (logits, n, out)."""
    return {
        "softmax": _softmax,
        "sigmoid": _sigmoid,
        "chosen": _as_they_are,
        "sparsemixer": _as_they_are,
    }[name]  # type: ignore[no-any-return]


@njit
def softmax_in_place(x, n):
    """Softmax of n floats, which are few."""
    top = load_f32(x)
    for i in range(1, n):
        top = max(top, load_f32(x + 4 * i))
    total = np.float32(0.0)
    for i in range(n):
        value = simd.first(simd.exp(simd.splat(load_f32(x + 4 * i) - top)))
        total += value
        store_f32(x + 4 * i, value)
    for i in range(n):
        store_f32(x + 4 * i, load_f32(x + 4 * i) / total)


@njit
def share_of_best(ranking, n):
    """The softmax of the largest of n floats over all that are less by no more than REACH of the
    larger of it and their own size (SparseMixer-v2 without noise: arXiv 2409.12136, section 2)."""
    top = load_f32(ranking)
    for i in range(1, n):
        top = max(top, load_f32(ranking + 4 * i))
    total = np.float32(0.0)
    for i in range(n):
        value = load_f32(ranking + 4 * i)
        if not top - value > np.float32(REACH) * max(abs(value), top):
            total += simd.first(simd.exp(simd.splat(value - top)))
    return np.float32(1.0) / total


@njit
def keep_best_groups(ranking, n, n_groups, n_chosen, scores):
    """Strike all of n floats off but those of the best groups of neighbours: a group counts as
    much as its two best (DeepSeek-V3, 2024, section 2.1.2). scores: floats, n of them and padding.
    """
    width = n // n_groups
    for group in range(n_groups):
        first, second = np.float32(NEVER), np.float32(NEVER)
        for i in range(group * width, (group + 1) * width):
            value = load_f32(ranking + 4 * i)
            if value > first:
                first, second = value, first
            elif value > second:
                second = value
        store_f32(scores + 4 * group, first + second)
    for i in range(n_groups, (n_groups + 15) // 16 * 16):
        store_f32(scores + 4 * i, np.float32(NEVER))
    # What take_best strikes off is what stays: twice, so that the rest is found by what is left.
    for _ in range(n_chosen):
        take_best(scores, n_groups)
    for group in range(n_groups):
        if load_f32(scores + 4 * group) != np.float32(NEVER):
            for i in range(group * width, (group + 1) * width):
                store_f32(ranking + 4 * i, np.float32(NEVER))
