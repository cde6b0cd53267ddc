"""Alternating updates (Baykal et al. 2023) and sparse gates of Gemma 3n.

A token has ``n_streams`` residual streams side by side. Before a layer each is predicted from all,
afterwards each is corrected by how far the layer's result is from the active one's prediction:

    p_b = x_b + sum over a of x_a coef[b, a]          x'_i = p_i + (y - p_active) (1 + coef[i])
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.dense.norm import load_row_vector

# x, out: float32 rows of stride bytes, n_streams streams of n columns, a multiple of 16; coef:
# float32 rows of coef_stride bytes, [n_streams, n_streams] of a token.
ALTUP_PREDICT = words("AltupPredict", "x out stride n_streams n coef coef_stride")
# x: as above, in place; y: float32 rows of y_stride bytes, n wide, what the active stream became;
# active: its number; coef: float32 rows of coef_stride bytes, [n_streams].
ALTUP_CORRECT = words("AltupCorrect", "x stride n_streams n y y_stride active coef coef_stride")
# x: float32 rows of x_stride bytes, scaled in place to the magnitude of y: float32 rows of
# y_stride bytes; both n wide.
MATCH = words("Match", "x x_stride y y_stride n")
# x: float32 rows of stride bytes, n wide, in place: max(x - mean - factor * deviation, 0), with the
# row's mean and (by n) deviation; factor: address of a float32.
GAUSSIAN_TOPK = words("GaussianTopK", "x stride n factor")
LEAST_MEAN = 1e-5  # of squares, that a magnitude is divided by


def build_altup_predict() -> Callable[..., None]:
    """The kernel; a chunk is a stream of a token."""

    def altup_predict(op, step, thread):  # type: ignore[no-untyped-def]
        n_streams, n = load_i64(op + ALTUP_PREDICT.n_streams), load_i64(op + ALTUP_PREDICT.n)
        n_chunks = load_i64(step + STEP.n_tokens) * n_streams
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token, stream = chunk // n_streams, chunk % n_streams
            offset = token * load_i64(op + ALTUP_PREDICT.stride)
            x = load_i64(op + ALTUP_PREDICT.x) + offset
            out = load_i64(op + ALTUP_PREDICT.out) + offset + 4 * n * stream
            coef = load_i64(op + ALTUP_PREDICT.coef) + 4 * stream * n_streams
            coef += token * load_i64(op + ALTUP_PREDICT.coef_stride)
            for i in range(0, 4 * n, 64):
                total = simd.load(x + 4 * n * stream + i)
                for a in range(n_streams):
                    factor = simd.splat(load_f32(coef + 4 * a))
                    total = simd.fma(simd.load(x + 4 * n * a + i), factor, total)
                simd.store(out + i, total)
            chunk = claim(thread, n_chunks)

    return altup_predict


def build_altup_correct() -> Callable[..., None]:
    """The kernel; a chunk is a token: the active stream is read by all, and changed last."""

    @njit
    def correct_token(op, x, y, coef):
        n_streams, n = load_i64(op + ALTUP_CORRECT.n_streams), load_i64(op + ALTUP_CORRECT.n)
        active, one = x + 4 * n * load_i64(op + ALTUP_CORRECT.active), np.float32(1.0)
        for i in range(0, 4 * n, 64):
            off = simd.load(y + i) - simd.load(active + i)
            for stream in range(n_streams):
                at, factor = x + 4 * n * stream + i, simd.splat(one + load_f32(coef + 4 * stream))
                simd.store(at, simd.fma(off, factor, simd.load(at)))

    def altup_correct(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + ALTUP_CORRECT.x) + token * load_i64(op + ALTUP_CORRECT.stride)
            y = load_i64(op + ALTUP_CORRECT.y) + token * load_i64(op + ALTUP_CORRECT.y_stride)
            coef = load_i64(op + ALTUP_CORRECT.coef)
            coef += token * load_i64(op + ALTUP_CORRECT.coef_stride)
            correct_token(op, x, y, coef)
            token = claim(thread, n_tokens)

    return altup_correct


@njit
def _mean_of_squares(x, n):
    total = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        v = load_row_vector(x, i, n)
        total = simd.fma(v, v, total)
    return simd.sum_lanes(total) / np.float32(n)


def build_match() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def match(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens, n = load_i64(step + STEP.n_tokens), load_i64(op + MATCH.n)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + MATCH.x) + token * load_i64(op + MATCH.x_stride)
            y = load_i64(op + MATCH.y) + token * load_i64(op + MATCH.y_stride)
            mean = max(_mean_of_squares(x, n), np.float32(LEAST_MEAN))
            factor = simd.splat(np.sqrt(_mean_of_squares(y, n)) / np.sqrt(mean))
            for i in range(0, n, 16):
                simd.store(x + 4 * i, simd.load(x + 4 * i) * factor)
            token = claim(thread, n_tokens)

    return match


@njit
def _cut_row(x, n, factor):
    """max(x - mean - factor * deviation, 0) in place."""
    total = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        total = total + load_row_vector(x, i, n)
    mean = simd.splat(simd.sum_lanes(total) / np.float32(n))
    squares = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        off = simd.load(x + 4 * i) - mean
        if i + 16 > n:
            off = simd.first_lanes(off, n - i, simd.splat(np.float32(0.0)))
        squares = simd.fma(off, off, squares)
    deviation = np.sqrt(simd.sum_lanes(squares) / np.float32(n))
    cutoff = mean + simd.splat(deviation * factor)
    for i in range(0, n, 16):
        kept = simd.maximum(simd.splat(np.float32(0.0)), simd.load(x + 4 * i) - cutoff)
        simd.store(x + 4 * i, kept)


def build_gaussian_topk() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def gaussian_topk(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + GAUSSIAN_TOPK.x) + token * load_i64(op + GAUSSIAN_TOPK.stride)
            factor = load_f32(load_i64(op + GAUSSIAN_TOPK.factor))
            _cut_row(x, load_i64(op + GAUSSIAN_TOPK.n), factor)
            token = claim(thread, n_tokens)

    return gaussian_topk
