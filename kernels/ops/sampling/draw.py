"""Draw the next token of each sequence from its row of logits.

Order: mask of allowed tokens, logit_bias, penalties, banned tokens and words; log-probabilities of
what is left (temperature 1, whole vocabulary); then, at temperature 0, the largest (lowest id
first), or truncation and temperature, in the usual order or as the slot's chain says, and one draw
by inverse CDF in ascending order of ids. The result is a function of the row, the slot's
parameters, its history and the position; with mirostat, also of the slot's draws before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.address import load_f32, load_f64, load_i32, load_i64, store_f32, store_i32
from slotmux.kernels.claims import T_TID, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Address, Op, Rows, given, offsets, reads, word
from slotmux.kernels.ops.sampling.chain import draw_by_chain
from slotmux.kernels.ops.sampling.cutoff import gather_largest
from slotmux.kernels.ops.sampling.edits import edit_row, needs_edits
from slotmux.kernels.ops.sampling.logits import (
    copied_row,
    draw,
    first_largest,
    inlined,
    inner,
    plain_row,
    span_maxima,
    span_sums,
    uniform,
    value_at,
)
from slotmux.kernels.ops.sampling.mirostat import keep_surprise, keeps_surprise
from slotmux.kernels.ops.sampling.slot_words import SLOT, is_greedy, work_arrays
from slotmux.kernels.ops.sampling.truncation import (
    draw_listed,
    is_truncated,
    list_candidates,
    looks_at_whole_row,
)
from slotmux.kernels.scalar import log

MAX_TOP = 20  # columns of top_ids and top_logprobs


class Sample(Op, kernel="sample"):
    """A token for each draw that the step's sample tables ask for, into its tables of results."""

    logits: Rows = reads("float32 [n_outputs, n_vocab]")
    slots: Address = given("a row of SLOT words for each slot")
    work: NDArray[np.uint8] = given("working memory, zeroed when it is allocated")
    work_bytes: int = given("of work, what each thread has")
    masks: NDArray[np.int64] | None = given(
        "[n_samples], for each draw the address of its allowed-token bits or 0; None: none has any"
    )
    is_draft: bool = given(
        "gives every draw its own log-probability and none the most likely ones, whatever the slot "
        "asks for"
    )

    @word
    def n_vocab(self) -> int:
        """Logits of a row."""
        return self.logits.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_sample_rows()


SAMPLE = offsets(Sample)
_INF = np.float32(np.inf)
_NAN = np.float32(np.nan)
_ONE = np.float32(1.0)


@inner
def _edited_row(op, slot, pos, s, n_vocab, logits, w):
    """The row to draw from: the logits where they stand (draws may share them), or a copy."""
    masks, mask = load_i64(op + SAMPLE.masks), np.int64(0)
    if masks != 0:
        mask = load_i64(masks + 8 * s)
    allowed = load_i64(slot + SLOT.allowed)
    row = plain_row(logits, n_vocab, w.tail)
    if mask == 0 and allowed == 0 and not needs_edits(slot, pos):
        return row
    row = copied_row(row, n_vocab, mask, w.copy)
    if allowed != 0:
        row = copied_row(row, n_vocab, allowed, w.copy)
    edit_row(slot, pos, n_vocab, w)
    return row


@inlined
def _draw_token(slot, pos, row, top, total, n_vocab, w):
    """The token drawn at ``pos``; ``total``: at temperature 1, 0 = not known."""
    if is_greedy(slot):
        return first_largest(row, top, w.maxima)
    chance = uniform(load_i64(slot + SLOT.key), pos)
    if load_i64(slot + SLOT.chain) != 0:
        return draw_by_chain(slot, pos, row, top, chance, n_vocab, w)
    factor = np.float32(load_f64(slot + SLOT.inverse_temperature))
    if is_truncated(slot, n_vocab):
        n = list_candidates(slot, row, top, total, n_vocab, w)
        return load_i32(w.ids + 4 * draw_listed(n, factor, chance, w))
    if factor != _ONE or total == 0.0:
        total = span_sums(row, top, factor, w.sums)
    return draw(row, top, factor, w.sums, chance * total, w.weights)


@inner
def store_top(row, top, log_total, n_top, top_ids, top_logprobs, w):
    """The most likely tokens, likeliest first, lower ids first; id -1 where none is left."""
    n = gather_largest(row, w.maxima, n_top, w.ids, w.values, w.index, w.bins)
    for j in range(n_top):
        best = 0
        for i in range(1, n):
            if load_f32(w.values + 4 * i) > load_f32(w.values + 4 * best):
                best = i
        token, logprob = np.int64(-1), -_INF
        if j < n:
            token = load_i32(w.ids + 4 * best)
            value = load_f32(w.values + 4 * best)
            logprob = np.float32(np.float64(value) - top - log_total)
            store_f32(w.values + 4 * best, -_INF)
        store_i32(top_ids + 4 * j, token)
        store_f32(top_logprobs + 4 * j, logprob)


@inlined
def _store_draw(step, n_logprobs, s, row, top, total, token, w):
    """Write what draw ``s`` gave; token -1: nothing could be drawn."""
    logprob = _NAN
    top_ids = load_i64(step + STEP.top_ids) + 4 * MAX_TOP * s
    if n_logprobs >= 0 and token >= 0:
        log_total = log(total)
        logprob = np.float32(np.float64(load_f32(value_at(row, token))) - top - log_total)
        top_logprobs = load_i64(step + STEP.top_logprobs) + 4 * MAX_TOP * s
        if n_logprobs > 0:
            store_top(row, top, log_total, n_logprobs, top_ids, top_logprobs, w)
    store_i32(load_i64(step + STEP.sampled) + 4 * s, token)
    store_f32(load_i64(step + STEP.logprob) + 4 * s, logprob)


@inlined
def _sample(op, step, s, n_vocab, w):
    """Draw ``s`` of the step."""
    slot = load_i64(op + SAMPLE.slots)
    slot += load_i32(load_i64(step + STEP.sample_slot) + 4 * s) * (8 * len(SLOT))
    pos = load_i32(load_i64(step + STEP.sample_pos) + 4 * s)
    logits = load_i64(op + SAMPLE.logits)
    logits += load_i32(load_i64(step + STEP.sample_output) + 4 * s) * load_i64(
        op + SAMPLE.logits_stride
    )
    row = _edited_row(op, slot, pos, s, n_vocab, logits, w)
    top, total, token = span_maxima(row, w.maxima), 0.0, np.int64(-1)
    n_logprobs = load_i64(slot + SLOT.n_logprobs)
    if load_i64(op + SAMPLE.is_draft) != 0:
        n_logprobs = np.int64(0)
    if top > -_INF:  # nothing is NaN or inf, and something is left to draw
        if n_logprobs >= 0 or (looks_at_whole_row(slot, n_vocab) and not is_greedy(slot)):
            total = span_sums(row, top, _ONE, w.sums)
        token = _draw_token(slot, pos, row, top, total, n_vocab, w)
    elif keeps_surprise(slot):
        keep_surprise(slot, pos)
    _store_draw(step, n_logprobs, s, row, top, total, token, w)


@inlined
def _n_in_order(op, step, s, n_samples):
    """How many draws whoever claimed draw ``s`` makes: of a slot whose draws need those before
    them, all if it is the first, else none; of any other slot one."""
    slots = load_i64(step + STEP.sample_slot)
    of = load_i32(slots + 4 * s)
    if not keeps_surprise(load_i64(op + SAMPLE.slots) + of * (8 * len(SLOT))):
        return np.int64(1)
    if s > 0 and load_i32(slots + 4 * (s - 1)) == of:
        return np.int64(0)
    end = s + 1
    while end < n_samples and load_i32(slots + 4 * end) == of:
        end += 1
    return end - s


def build_sample_rows() -> Callable[..., None]:
    """The kernel; a chunk is one draw. ``sampled`` is -1 where the row holds a NaN or inf, or
    where nothing may be drawn; ``logprob`` is NaN then, and where none was asked for. Draws of a
    slot stand together, in the order of their positions."""

    def sample_rows(op, step, thread):  # type: ignore[no-untyped-def]
        n_samples = load_i64(step + STEP.n_samples)
        s = claim(thread, n_samples)
        while s >= 0:
            n_vocab = load_i64(op + SAMPLE.n_vocab)
            work = load_i64(op + SAMPLE.work)
            work += load_i64(thread + 8 * T_TID) * load_i64(op + SAMPLE.work_bytes)
            for i in range(s, s + _n_in_order(op, step, s, n_samples)):
                _sample(op, step, i, n_vocab, work_arrays(work, n_vocab))
            s = claim(thread, n_samples)

    return sample_rows
