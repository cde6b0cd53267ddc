"""What sampling kernels read about a slot, and a thread's working memory for a draw."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from slotmux.kernels.address import load_f64, load_i64
from slotmux.kernels.operands import words
from slotmux.kernels.ops.sampling.cutoff import N_BINS
from slotmux.kernels.ops.sampling.logits import SPAN, inner

# A slot's parameters: int64 words, and from inverse_temperature on float64 ones. key and xtc_key:
# of uniform(); bias_ids int32 and biases float32 [n_bias]; banned_ids int32 [n_banned]: not drawn
# at positions below min_pos; history int32: the sequence's tokens; allowed: bits of the tokens that
# may be drawn, or 0. edits and chain: codes of chain.py, four bits each, the first lowest: changes
# to single logits of the whole row, and what replaces the usual order of truncation (0: nothing).
# bad_starts int32 [n_bad + 1] cut bad_tokens int32 into sequences. dry_breakers and dry_singles:
# bits of the tokens that begin a sequence breaker, and that are one by themselves; dry_starts
# [n_dry + 1] and dry_tokens: breakers of several tokens, ascending by their first. surprises:
# float64 [n_ctx + 2], mirostat's mu of the draw at each position from first_pos on.
# Off are: inverse_temperature 0 (greedy), top_k 0, top_p 1, typical_p 1, log_min_p -inf.
# repeat_last_n -1 and dry_last_n -1 = all tokens; n_logprobs -1 = none asked for.
SLOT = words(
    "Slot",
    "key top_k n_logprobs repeat_last_n history n_bias bias_ids biases n_banned banned_ids "
    "min_pos edits chain allowed n_bad bad_starts bad_tokens dry_last_n dry_allowed_length "
    "dry_max_exponent dry_breakers dry_singles n_dry dry_starts dry_tokens xtc_key min_keep "
    "surprises first_pos "
    "inverse_temperature top_p log_min_p typical_p repeat_penalty frequency_penalty "
    "presence_penalty dry_multiplier dry_base top_n_sigma xtc_probability xtc_threshold "
    "temperature_low temperature_high temperature_exponent mirostat_tau mirostat_eta",
)
# Addresses of arrays with room for every token, then of smaller ones; z: for every position.
Work = namedtuple("Work", "copy counts ids values weights keys index maxima sums bins tail z")
_N_LARGE = 7


@inner
def _sizes(n_vocab):
    n_spans = (n_vocab + SPAN - 1) // SPAN
    return 4 * SPAN * n_spans, (4 * n_spans + 63) // 64 * 64


def work_bytes(n_vocab: int, n_ctx: int) -> int:
    """Size of a thread's working memory; it is zeroed when it is allocated."""
    large, small = _sizes.py_func(n_vocab)
    return int(_N_LARGE * large + 2 * small + 8 * N_BINS + 4 * SPAN + 4 * n_ctx)


@inner
def work_arrays(base, n_vocab):
    """Where the arrays stand in a thread's working memory."""
    large, small = _sizes(n_vocab)
    maxima = base + _N_LARGE * large
    sums = maxima + small
    bins = sums + small
    tail = bins + 8 * N_BINS
    z = tail + 4 * SPAN
    counts, ids, values = base + large, base + 2 * large, base + 3 * large
    weights, keys, index = base + 4 * large, base + 5 * large, base + 6 * large
    return Work(base, counts, ids, values, weights, keys, index, maxima, sums, bins, tail, z)


@inner
def is_greedy(slot):
    """Whether the largest is taken."""
    return load_f64(slot + SLOT.inverse_temperature) == 0.0


@inner
def has_top_k(slot, n_vocab):
    """Whether top_k takes anything away."""
    return 0 < load_i64(slot + SLOT.top_k) < n_vocab


@inner
def has_typical_p(slot):
    """Whether typical_p takes anything away."""
    return load_f64(slot + SLOT.typical_p) < 1.0


@inner
def has_top_p(slot):
    """Whether top_p takes anything away."""
    return load_f64(slot + SLOT.top_p) < 1.0


@inner
def has_min_p(slot):
    """Whether min_p takes anything away."""
    return load_f64(slot + SLOT.log_min_p) > -np.inf
