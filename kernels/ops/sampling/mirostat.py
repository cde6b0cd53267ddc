"""Mirostat (Basu et al. 2021), versions 1 and 2: truncation that keeps the surprise of what is
drawn near a target.

Each draw corrects mu, the surprise that the next one may have. There is a mu for every position,
so what drafts draw behind a wrong one is overwritten and never read.
"""

from __future__ import annotations

import numpy as np

from slotmux.kernels.address import load_f32, load_f64, load_i32, load_i64, store_f64
from slotmux.kernels.ops.sampling.codes import MIROSTAT_1, MIROSTAT_2
from slotmux.kernels.ops.sampling.cutoff import gather_largest
from slotmux.kernels.ops.sampling.logits import LOWEST, gather, inlined, inner, span_sums
from slotmux.kernels.ops.sampling.slot_words import SLOT
from slotmux.kernels.ops.sampling.truncation import draw_listed, largest, weight_of
from slotmux.kernels.scalar import exp, log

_LN2 = 0.6931471805599453
N_FITTED = 100  # of version 1: the likeliest tokens, to which Zipf's law is fitted


@inner
def keeps_surprise(slot):
    """Whether a draw looks at those before it."""
    chain = load_i64(slot + SLOT.chain)
    return chain in (MIROSTAT_1, MIROSTAT_2)


@inner
def _mu(slot, pos):
    return load_f64(load_i64(slot + SLOT.surprises) + 8 * pos)


@inner
def _set_next(slot, pos, mu):
    if pos >= load_i64(slot + SLOT.first_pos):  # what looks back at a prompt changes nothing
        store_f64(load_i64(slot + SLOT.surprises) + 8 * (pos + 1), mu)


@inlined
def keep_surprise(slot, pos):
    """A draw that gave nothing leaves mu as it was."""
    _set_next(slot, pos, _mu(slot, pos))


@inner
def _largest_unused(values, n, before, place):
    """Place of the largest value after (before, place) in descending order, lower places first."""
    found = np.int64(-1)
    for i in range(n):
        value = load_f32(values + 4 * i)
        is_after = value < before or (value == before and i > place)
        if is_after and (found < 0 or value > load_f32(values + 4 * found)):
            found = i
    return found


@inlined
def _zipf_exponent(n, factor, w):
    """Of the n listed values: the slope of their log-probabilities over the log of their rank."""
    by_rank, by_square = 0.0, 0.0
    place = _largest_unused(w.values, n, np.float32(np.inf), np.int64(-1))
    for i in range(n - 1):
        value = load_f32(w.values + 4 * place)
        place = _largest_unused(w.values, n, value, place)
        step = log(np.float64(i + 2) / np.float64(i + 1))
        fall = (np.float64(value) - np.float64(load_f32(w.values + 4 * place))) * factor
        by_rank += step * fall
        by_square += step * step
    return by_rank / by_square if n > 1 else 0.0


@inlined
def _n_allowed(mu, exponent, n_vocab):
    """How many of the likeliest tokens give a mean surprise of mu, if Zipf's law holds."""
    if not exponent > 1e-9:
        return np.int64(1)
    epsilon, log_n = exponent - 1.0, log(np.float64(n_vocab))
    if abs(epsilon) < 1e-9:
        share = 1.0 / log_n if log_n > 0.0 else 1.0
    else:
        share = epsilon / (1.0 - exp(-epsilon * log_n))
    log_k = (log(share) + mu * _LN2) / exponent
    if log_k >= log_n:
        return np.int64(n_vocab)
    return max(np.int64(1), np.int64(exp(max(log_k, 0.0))))


@inlined
def _list_by_rank(row, factor, mu, n_vocab, w):
    """Version 1: the list of the k likeliest tokens."""
    n = gather_largest(row, w.maxima, np.int64(N_FITTED), w.ids, w.values, w.index, w.bins)
    k = _n_allowed(mu, _zipf_exponent(n, factor, w), n_vocab)
    return gather_largest(row, w.maxima, k, w.ids, w.values, w.index, w.bins)


@inlined
def _list_by_surprise(row, top, factor, mu, w):
    """Version 2: the list of what has a surprise of mu at most, or of the likeliest."""
    total = span_sums(row, top, np.float32(factor), w.sums)
    reach = (log(total) - mu * _LN2) / factor
    floor = top if reach >= 0.0 else max(np.float32(np.float64(top) + reach), LOWEST)
    return gather(row, w.maxima, floor, w.ids, w.values)


@inlined
def draw_near_surprise(slot, pos, row, top, chance, n_vocab, w):
    """The token drawn at ``pos``; mu of the next position is written."""
    factor, mu = load_f64(slot + SLOT.inverse_temperature), _mu(slot, pos)
    if load_i64(slot + SLOT.chain) == MIROSTAT_1:
        n = _list_by_rank(row, factor, mu, n_vocab, w)
    else:
        n = _list_by_surprise(row, top, factor, mu, w)
    place = draw_listed(n, np.float32(factor), chance, w)
    value = np.float64(load_f32(w.values + 4 * place))
    # draw_listed left the sum of each span's weights.
    total = weight_of(w.sums, (n + 127) // 128)
    distance = (np.float64(largest(w.values, n)) - value) * factor
    surprise = (log(total) + distance) / _LN2
    eta, tau = load_f64(slot + SLOT.mirostat_eta), load_f64(slot + SLOT.mirostat_tau)
    _set_next(slot, pos, mu - eta * (surprise - tau))
    return load_i32(w.ids + 4 * place)
