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
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, given, offsets, reads, updates, word, writes
from slotmux.kernels.ops.dense.norm import load_row_vector


class AltupPredict(Op, kernel="altup_predict"):
    """out[b] = x[b] + the sum over streams a of x[a] * coef[b, a]"""

    x: Rows = reads("float32 [n_tokens, n_streams * n], n a multiple of 16")
    n_streams: int = given("residual streams")
    coef: Rows = reads("float32 [n_tokens, n_streams * n_streams]")
    out: Rows = writes("float32 [n_tokens, n_streams * n]")

    @word
    def n(self) -> int:
        """Width of a stream."""
        return self.x.width // self.n_streams

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_altup_predict()


class AltupCorrect(Op, kernel="altup_correct"):
    """x[i] += (y - x[active]) * (1 + coef[i]), all streams by what the active one was before"""

    x: Rows = updates("float32 [n_tokens, n_streams * n], n a multiple of 16")
    n_streams: int = given("residual streams")
    y: Rows = reads("float32 [n_tokens, n], what the active stream became")
    active: int = given("its number")
    coef: Rows = reads("float32 [n_tokens, n_streams]")

    @word
    def n(self) -> int:
        """Width of a stream."""
        return self.x.width // self.n_streams

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_altup_correct()


class MatchMagnitude(Op, kernel="match_magnitude"):
    """x *= |y| / |x|, row by row"""

    x: Rows = updates("float32 [n_tokens, n]")
    y: Rows = reads("float32 [n_tokens, n]")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_match()


class GaussianTopK(Op, kernel="gaussian_topk"):
    """x = max(x - mean - factor * deviation, 0), with each row's mean and (by n) deviation"""

    x: Rows = updates("float32 [n_tokens, n]")
    factor: float = given("float32")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_gaussian_topk()


ALTUP_PREDICT, ALTUP_CORRECT = offsets(AltupPredict), offsets(AltupCorrect)
MATCH, GAUSSIAN_TOPK = offsets(MatchMagnitude), offsets(GaussianTopK)
LEAST_MEAN = 1e-5  # of squares, that a magnitude is divided by


def build_altup_predict() -> Callable[..., None]:
    """The kernel; a chunk is a stream of a token."""

    def altup_predict(op, step, thread):  # type: ignore[no-untyped-def]
        n_streams, n = load_i64(op + ALTUP_PREDICT.n_streams), load_i64(op + ALTUP_PREDICT.n)
        n_chunks = load_i64(step + STEP.n_tokens) * n_streams
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token, stream = chunk // n_streams, chunk % n_streams
            offset = token * load_i64(op + ALTUP_PREDICT.x_stride)
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
            x = load_i64(op + ALTUP_CORRECT.x) + token * load_i64(op + ALTUP_CORRECT.x_stride)
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
            x = load_i64(op + GAUSSIAN_TOPK.x) + token * load_i64(op + GAUSSIAN_TOPK.x_stride)
            factor = load_f32(load_i64(op + GAUSSIAN_TOPK.factor))
            _cut_row(x, load_i64(op + GAUSSIAN_TOPK.n), factor)
            token = claim(thread, n_tokens)

    return gaussian_topk
