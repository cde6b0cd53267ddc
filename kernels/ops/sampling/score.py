"""How likely a given token is after each output row: for the tokens of a prompt.

Log-softmax of the row as it stands: log p = x[token] - max x - log(sum exp(x - max x)). Nothing is
drawn, and no request's parameters change the row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32, store_i32
from slotmux.kernels.claims import T_TID, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, Table, given, offsets, reads, word, writes
from slotmux.kernels.ops.sampling.draw import MAX_TOP, store_top
from slotmux.kernels.ops.sampling.logits import (
    SPAN,
    inlined,
    inner,
    plain_row,
    span_at,
    span_maxima,
    span_sums,
    value_at,
)
from slotmux.kernels.ops.sampling.slot_words import work_arrays
from slotmux.kernels.scalar import log


class Score(Op, kernel="score_rows"):
    """logprobs, ranks = of a given token for each output row; the model's own, not a request's"""

    logits: Rows = reads("float32 [n_outputs, n_vocab]")
    work: NDArray[np.uint8] = given("working memory, as the draws have it")
    work_bytes: int = given("of work, what each thread has")
    targets: NDArray[np.int32] = given("[n_outputs], the tokens that are asked about")
    n_top: NDArray[np.int32] = given("[n_outputs], how many of the likeliest tokens are wanted")
    logprobs: Table[np.float32] = writes("[n_outputs], NaN where the row holds a NaN or inf")
    ranks: Table[np.int32] = writes("[n_outputs]")
    top_ids: Table[np.int32] = writes("[n_outputs, MAX_TOP], likeliest first")
    top_logprobs: Table[np.float32] = writes("[n_outputs, MAX_TOP], likeliest first")

    @word
    def n_vocab(self) -> int:
        """Logits of a row."""
        return self.logits.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_score_rows()


SCORE = offsets(Score)
_INF = np.float32(np.inf)
_NAN = np.float32(np.nan)
_ONE = np.float32(1.0)


@inner
def _rank(row, value):
    """How many values of a row are not below ``value``, the value itself among them."""
    zero, one, floor = simd.splat(np.float32(0.0)), simd.splat(_ONE), simd.splat(value)
    n = 0
    for i in range(row.n_spans):
        at = span_at(row, i)
        part = zero
        for j in range(SPAN // 16):
            part = part + simd.where_less(simd.load(at + 64 * j), floor, zero, one)
        n += np.int64(simd.sum_lanes(part))
    return n


@inlined
def _score(op, r, n_vocab, w):
    """Output row ``r``."""
    logits = load_i64(op + SCORE.logits) + r * load_i64(op + SCORE.logits_stride)
    row = plain_row(logits, n_vocab, w.tail)
    top = span_maxima(row, w.maxima)
    logprob, rank = _NAN, np.int64(0)
    if top > -_INF:  # nothing is NaN or inf
        log_total = log(span_sums(row, top, _ONE, w.sums))
        value = load_f32(value_at(row, load_i32(load_i64(op + SCORE.targets) + 4 * r)))
        logprob = np.float32(np.float64(value) - top - log_total)
        rank = min(_rank(row, value), n_vocab)
        n_top = load_i32(load_i64(op + SCORE.n_top) + 4 * r)
        if n_top > 0:
            top_ids = load_i64(op + SCORE.top_ids) + 4 * MAX_TOP * r
            top_logprobs = load_i64(op + SCORE.top_logprobs) + 4 * MAX_TOP * r
            store_top(row, top, log_total, n_top, top_ids, top_logprobs, w)
    store_f32(load_i64(op + SCORE.logprobs) + 4 * r, logprob)
    store_i32(load_i64(op + SCORE.ranks) + 4 * r, rank)


def build_score_rows() -> Callable[..., None]:
    """The kernel; a chunk is one output row. A rank counts from 1; equal values share the last
    rank that any of them has."""

    def score_rows(op, step, thread):  # type: ignore[no-untyped-def]
        n_outputs = load_i64(step + STEP.n_outputs)
        r = claim(thread, n_outputs)
        while r >= 0:
            n_vocab = load_i64(op + SCORE.n_vocab)
            work = load_i64(op + SCORE.work)
            work += load_i64(thread + 8 * T_TID) * load_i64(op + SCORE.work_bytes)
            _score(op, r, n_vocab, work_arrays(work, n_vocab))
            r = claim(thread, n_outputs)

    return score_rows
