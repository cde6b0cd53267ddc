"""Plain NumPy twin of kernels/ops/sampling/draw.py: sorts, float64, one draw at a time."""

from __future__ import annotations

import numpy as np

from tests.reference.samplers import chained, penalised, row_edits, usual, words_of

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(state, n):
    """Output n (0, 1, ...) of the generator SplitMix64 started with ``state``."""
    z = (state + GOLDEN * (n + 1)) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform(seed, position, purpose=0):
    """The random number of the draw at ``position``; ``purpose`` 1: of xtc."""
    return (splitmix64(splitmix64(seed & MASK, purpose), position) >> 11) * 2.0**-53


def edited(logits, params, history, banned=(), min_pos=0, allowed=None):
    """Logits after bias, penalties, bans and mask; ``history``: the tokens before the draw."""
    x = np.array(logits, np.float32)
    for token, bias in params.logit_bias:
        x[token] += np.float32(bias)
    for name in row_edits(params):
        x = penalised(name, x, np.arange(len(x)), params, history)
    if len(history) < min_pos:
        x[list(banned)] = -np.inf
    if allowed is not None:
        x[~allowed] = -np.inf
    for word in words_of(params.bad_words):
        n = len(word) - 1
        if n <= len(history) and list(history[len(history) - n :]) == word[:-1]:
            x[word[-1]] = -np.inf
    return x


def logprobs(x):
    """Log-softmax in float64."""
    shifted = x.astype(np.float64) - np.float64(x.max())
    return shifted - np.log(np.exp(shifted).sum())


def _best_first(keys, ids):
    return ids[np.lexsort((ids, -keys[ids]))]


def candidates(x, params, nudge=0.0):
    """Ids that truncation keeps; ``nudge`` moves the borders of top_p and typical_p a little."""
    ids = _best_first(x, np.flatnonzero(x > -np.inf))
    if 0 < params.top_k < len(x):
        ids = ids[: params.top_k]
    if params.typical_p < 1:
        logp = logprobs(x[ids])
        distance = np.full(len(x), np.inf)
        mean = -(np.exp(logp) * logp).sum() + nudge / 100
        distance[ids] = np.abs(-logp - mean)
        distance = distance.astype(np.float32)
        order = _best_first(-distance, ids)
        p = dict(zip(ids.tolist(), np.exp(logp).tolist(), strict=True))
        cumulated = np.cumsum([p[i] for i in order.tolist()])
        n = int(np.searchsorted(cumulated, params.typical_p + nudge, side="right")) + 1
        ids = _best_first(x, np.sort(order[:n]))
    if params.top_p < 1:
        cumulated = np.cumsum(np.exp(logprobs(x[ids])))
        n = int(np.searchsorted(cumulated, params.top_p + nudge, side="left")) + 1
        ids = ids[:n]
    if params.min_p > 0:
        floor = x[ids[0]] + np.float32(np.log(params.min_p))
        ids = ids[x[ids] >= floor]
    return np.sort(ids)


def draw(x, params, chances, nudge=0.0, history=(), xtc=1.0):
    """The tokens that random numbers draw; ``xtc``: the number that decides whether it applies."""
    if not usual(params):
        ids, scaled = chained(x, params, history, xtc, nudge)
        cumulated = np.cumsum(np.exp(scaled - scaled.max()))
        i = np.searchsorted(cumulated, np.array(chances) * cumulated[-1], side="right")
        return ids[np.minimum(i, len(ids) - 1)].tolist()
    if params.temperature == 0:
        return [int(np.argmax(x))] * len(chances)
    ids = candidates(x, params, nudge)
    scaled = (x[ids].astype(np.float64) - x[ids].max()) / params.temperature
    cumulated = np.cumsum(np.exp(scaled))
    i = np.searchsorted(cumulated, np.array(chances) * cumulated[-1], side="right")
    return ids[np.minimum(i, len(ids) - 1)].tolist()


def acceptable(x, params, chance, tolerance=2e-5, **more):
    """Every token that a draw may give whose borders and random number are off by a little."""
    shifts = np.array((-tolerance, 0.0, tolerance))
    chances = np.clip(chance + shifts, 0.0, 1.0)
    return {token for shift in shifts for token in draw(x, params, chances, shift, **more)}


def top(x, n):
    """The n likeliest (id, logprob), fewer when the rest is impossible."""
    logp = logprobs(x)
    ids = _best_first(x, np.flatnonzero(x > -np.inf))[:n]
    return [(int(i), float(logp[i])) for i in ids]
