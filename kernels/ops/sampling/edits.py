"""Changes to single logits: bias, penalties for repetition, banned tokens and words."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.address import load_f32, load_f64, load_i32, load_i64, store_f32, store_i32
from slotmux.kernels.ops.sampling.codes import BITS, PENALTIES
from slotmux.kernels.ops.sampling.logits import LOWEST, inlined, inner
from slotmux.kernels.ops.sampling.repeats import mark_repeats, repeat_penalty_of, stands_at
from slotmux.kernels.ops.sampling.slot_words import SLOT

_INF = np.float32(np.inf)
_LARGEST = np.float32(np.finfo(np.float32).max)


@inner
def _is_banning(slot, pos):
    return load_i64(slot + SLOT.n_banned) > 0 and pos < load_i64(slot + SLOT.min_pos)


@inner
def needs_edits(slot, pos):
    """Whether ``edit_row`` would change anything."""
    return (
        load_i64(slot + SLOT.n_bias) > 0
        or load_i64(slot + SLOT.edits) != 0
        or _is_banning(slot, pos)
        or load_i64(slot + SLOT.n_bad) > 0
    )


@inner
def _replace(at, new):
    """Store a logit; one that was no inf before does not become one."""
    if new == _INF and load_f32(at) < _INF:
        new = _LARGEST
    store_f32(at, new)


@inlined
def _add_bias(slot, x):
    ids, biases = load_i64(slot + SLOT.bias_ids), load_i64(slot + SLOT.biases)
    for i in range(load_i64(slot + SLOT.n_bias)):
        at = x + 4 * load_i32(ids + 4 * i)
        _replace(at, load_f32(at) + load_f32(biases + 4 * i))


@inlined
def _count_tokens(slot, pos, n_vocab, counts, distinct):
    """Count the last tokens before ``pos``; list the distinct ones and return how many they are."""
    last_n, history = load_i64(slot + SLOT.repeat_last_n), load_i64(slot + SLOT.history)
    n = 0
    for i in range(0 if last_n < 0 else max(0, pos - last_n), pos):
        token = load_i32(history + 4 * i)
        if 0 <= token < n_vocab:
            count = load_i32(counts + 4 * token)
            if count == 0:
                store_i32(distinct + 4 * n, token)
                n += 1
            store_i32(counts + 4 * token, count + 1)
    return n


@inner
def _mark(slot, code, pos, n_vocab, w, distinct):
    """Mark in ``w.counts`` the tokens that a sampler penalises; how many were listed."""
    if code == PENALTIES:
        return _count_tokens(slot, pos, n_vocab, w.counts, distinct)
    return mark_repeats(slot, pos, n_vocab, w.z, w.counts, distinct)


@inner
def _penalise(slot, code, token, mark, at):
    """Change the logit of a marked token: repetition (Keskar et al. 2019), frequency and presence
    penalties, or DRY."""
    value = load_f32(at)
    if code == PENALTIES:
        repeat = np.float32(load_f64(slot + SLOT.repeat_penalty))
        frequency = np.float32(load_f64(slot + SLOT.frequency_penalty))
        presence = np.float32(load_f64(slot + SLOT.presence_penalty))
        value = value / repeat if value > np.float32(0.0) else value * repeat
        _replace(at, value - (np.float32(mark) * frequency + presence))
    elif value > -_INF:
        penalty = np.float32(repeat_penalty_of(slot, token, np.int64(mark) - 1))
        store_f32(at, max(value - penalty, LOWEST))


@inner
def _penalise_row(slot, code, pos, n_vocab, w):
    """Change the logits of ``w.copy``; leaves ``w.counts`` zero."""
    for i in range(_mark(slot, code, pos, n_vocab, w, w.ids)):
        token = load_i32(w.ids + 4 * i)
        mark = load_i32(w.counts + 4 * token)
        store_i32(w.counts + 4 * token, 0)
        _penalise(slot, code, token, mark, w.copy + 4 * token)


@inner
def penalise_listed(slot, code, pos, n, n_vocab, w):
    """Change the n listed values; leaves ``w.counts`` zero."""
    n_marked = _mark(slot, code, pos, n_vocab, w, w.index)
    for i in range(n):
        token = load_i32(w.ids + 4 * i)
        mark = load_i32(w.counts + 4 * token)
        if mark > 0:
            _penalise(slot, code, token, mark, w.values + 4 * i)
    for i in range(n_marked):
        store_i32(w.counts + 4 * load_i32(w.index + 4 * i), 0)


@inner
def _ban(x, token):
    at = x + 4 * token
    store_f32(at, load_f32(at) - _INF)  # a NaN stays visible


@inlined
def _ban_words(slot, pos, x):
    """Ban the last token of each sequence whose other tokens are the last ones."""
    starts, tokens = load_i64(slot + SLOT.bad_starts), load_i64(slot + SLOT.bad_tokens)
    history = load_i64(slot + SLOT.history)
    for i in range(load_i64(slot + SLOT.n_bad)):
        start = load_i32(starts + 4 * i)
        n = load_i32(starts + 4 * (i + 1)) - start - 1
        if stands_at(history, pos - n, pos, tokens + 4 * start, n):
            _ban(x, load_i32(tokens + 4 * (start + n)))


@inlined
def edit_row(slot, pos, n_vocab, w):
    """Change the logits of ``w.copy`` for the draw at ``pos``; ``w.counts`` are zero, and zero
    again after."""
    _add_bias(slot, w.copy)
    codes = load_i64(slot + SLOT.edits)
    while codes != 0:
        _penalise_row(slot, codes & ((1 << BITS) - 1), pos, n_vocab, w)
        codes >>= BITS
    if _is_banning(slot, pos):
        ids = load_i64(slot + SLOT.banned_ids)
        for i in range(load_i64(slot + SLOT.n_banned)):
            _ban(w.copy, load_i32(ids + 4 * i))
    _ban_words(slot, pos, w.copy)
