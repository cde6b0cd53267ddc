"""Changes to single logits before a draw: bias, penalties for repetition, banned tokens."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.address import load_f32, load_f64, load_i32, load_i64, store_f32, store_i32
from slotmux.kernels.ops.sampling.logits import inlined, inner
from slotmux.kernels.ops.sampling.slot_words import SLOT

_INF = np.float32(np.inf)
_LARGEST = np.float32(np.finfo(np.float32).max)


@inner
def _has_penalties(slot):
    return load_i64(slot + SLOT.repeat_last_n) != 0 and (
        load_f64(slot + SLOT.repeat_penalty) != 1.0
        or load_f64(slot + SLOT.frequency_penalty) != 0.0
        or load_f64(slot + SLOT.presence_penalty) != 0.0
    )


@inner
def _is_banning(slot, pos):
    return load_i64(slot + SLOT.n_banned) > 0 and pos < load_i64(slot + SLOT.min_pos)


@inner
def needs_edits(slot, pos):
    """Whether ``edit_row`` would change anything."""
    return load_i64(slot + SLOT.n_bias) > 0 or _has_penalties(slot) or _is_banning(slot, pos)


@inner
def _replace(at, new):
    """Store a logit; one that was no inf before does not become one."""
    if new == _INF and load_f32(at) < _INF:
        new = _LARGEST
    store_f32(at, new)


@inner
def _add_bias(slot, x):
    ids, biases = load_i64(slot + SLOT.bias_ids), load_i64(slot + SLOT.biases)
    for i in range(load_i64(slot + SLOT.n_bias)):
        at = x + 4 * load_i32(ids + 4 * i)
        _replace(at, load_f32(at) + load_f32(biases + 4 * i))


@inner
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
def _penalise(slot, pos, n_vocab, x, counts, distinct):
    """Repetition (Keskar et al. 2019), frequency and presence penalties. Leaves counts zero."""
    repeat = np.float32(load_f64(slot + SLOT.repeat_penalty))
    frequency = np.float32(load_f64(slot + SLOT.frequency_penalty))
    presence = np.float32(load_f64(slot + SLOT.presence_penalty))
    for i in range(_count_tokens(slot, pos, n_vocab, counts, distinct)):
        token = load_i32(distinct + 4 * i)
        count, at = np.float32(load_i32(counts + 4 * token)), x + 4 * token
        store_i32(counts + 4 * token, 0)
        value = load_f32(at)
        value = value / repeat if value > np.float32(0.0) else value * repeat
        _replace(at, value - (count * frequency + presence))


@inlined
def edit_row(slot, pos, n_vocab, x, counts, distinct):
    """Change the logits at x for the draw at ``pos``. ``counts``: zeros, and zeros again after."""
    _add_bias(slot, x)
    if _has_penalties(slot):
        _penalise(slot, pos, n_vocab, x, counts, distinct)
    if _is_banning(slot, pos):
        ids = load_i64(slot + SLOT.banned_ids)
        for i in range(load_i64(slot + SLOT.n_banned)):
            at = x + 4 * load_i32(ids + 4 * i)
            store_f32(at, load_f32(at) - _INF)  # a NaN stays visible
