"""Plain NumPy twins of kernels/ops/sampling/{repeats,edits,chain,mirostat}.py: sorted lists,
float64, one sampler after the other, as llama-server applies them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

USUAL = ["top_k", "typ_p", "top_p", "min_p", "temperature"]


def words_of(sequences):
    """TokenSequences as lists of tokens."""
    if sequences is None:
        return []
    starts = sequences.starts.tolist()
    return [sequences.tokens[a:b].tolist() for a, b in pairwise(starts)]


def tokens_of(token_set):
    """A TokenSet as a set."""
    bits = np.unpackbits(token_set.bits.view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def active(params):
    """The samplers that do anything, in order."""
    p = params
    on = {
        "penalties": p.repeat_last_n != 0
        and (p.repeat_penalty != 1 or p.frequency_penalty != 0 or p.presence_penalty != 0),
        "dry": p.dry_multiplier > 0 and p.dry_base >= 1 and p.dry_penalty_last_n != 0,
        "top_n_sigma": p.top_n_sigma > 0, "top_k": p.top_k > 0, "typ_p": p.typical_p < 1,
        "top_p": p.top_p < 1, "min_p": p.min_p > 0,
        "xtc": p.xtc_probability > 0 and p.xtc_threshold <= 0.5,
        "temperature": p.temperature != 1 or p.dynatemp_range > 0,
    }  # fmt: skip
    return [name for name in p.samplers if on[name]]


def is_greedy(params):
    p = params
    if p.mirostat:
        return p.temperature == 0
    return "temperature" in p.samplers and p.temperature == 0 and p.dynatemp_range <= 0


def row_edits(params):
    """What changes the whole row before anything is cut."""
    names = active(params)
    if is_greedy(params) or params.mirostat:
        return [name for name in names if name in ("penalties", "dry")]
    n = 0
    while n < len(names) and names[n] in ("penalties", "dry"):
        n += 1
    return names[:n]


def usual(params):
    """Whether the samplers are those of the twin in sampling.py, in its order, and nothing else."""
    if is_greedy(params):
        return True
    left = active(params)[len(row_edits(params)) :]
    is_same = left == [name for name in USUAL if name in left]
    same_params = set(USUAL) <= set(params.samplers) and params.dynatemp_range <= 0
    return is_same and same_params and params.min_keep <= 1 and not params.mirostat


def penalised(name, x, ids, params, history):
    """Logits ``x`` of the tokens ``ids`` after penalties or dry."""
    x = x.copy()
    if name == "dry":
        penalty = dry_penalties(params, list(history))
        for i, token in enumerate(ids.tolist()):
            if token in penalty and x[i] > -np.inf:
                x[i] = max(x[i] - np.float32(penalty[token]), np.finfo(np.float32).min)
        return x
    n = params.repeat_last_n
    window = history if n < 0 else history[max(0, len(history) - n) :]
    repeat, frequency, presence = (
        np.float32(p)
        for p in (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
    )
    counts = dict(zip(*(a.tolist() for a in np.unique(window, return_counts=True)), strict=True))
    for i, token in enumerate(ids.tolist()):
        if token in counts:
            x[i] = x[i] / repeat if x[i] > 0 else x[i] * repeat
            x[i] -= np.float32(counts[token]) * frequency + presence
    return x


def dry_penalties(params, history):
    """{token: penalty}: every earlier place whose text equals the end, one by one."""
    n = len(history) if params.dry_penalty_last_n < 0 else params.dry_penalty_last_n
    text = history[max(0, len(history) - n) :]
    allowed = params.dry_allowed_length
    breakers = params.dry_breakers
    single = set() if breakers is None else tokens_of(breakers.single)
    several = [] if breakers is None else words_of(breakers.several)
    limit = len(text)
    for start in reversed(range(len(text))):
        lengths = [1] * (text[start] in single)
        lengths += [len(w) for w in several if text[start : start + len(w)] == w]
        if lengths:
            limit = len(text) - start - max(lengths)
            break
    if len(text) <= allowed or limit < allowed:
        return {}
    longest = {}
    for end in range(1, len(text)):  # text[:end] is followed by text[end]
        length = 0
        while length < min(end, limit) and text[end - 1 - length] == text[-1 - length]:
            length += 1
        if length >= allowed:
            longest[text[end]] = max(length, longest.get(text[end], 0))
    cap = int(88.7228391 / np.log(params.dry_base)) if params.dry_base > 1.000001 else 1 << 30
    return {
        token: params.dry_multiplier * params.dry_base ** min(length - allowed, cap)
        for token, length in longest.items()
        if token not in single
    }


def _probabilities(x):
    p = np.exp(x - x.max())
    return p / p.sum()


def _descending(keys, ids):
    """Places in descending order of keys, lower ids first."""
    return np.lexsort((ids, -keys))


def _cut(name, x, ids, params, nudge):
    """Which places a truncating sampler keeps."""
    keys, p = x.astype(np.float32), _probabilities(x)
    if name == "top_k":
        return _descending(keys, ids)[: params.top_k]
    if name == "top_n_sigma":
        return np.flatnonzero(x >= x.max() - max(params.top_n_sigma * x.std() + nudge, 0.0))
    if name == "min_p":
        kept = np.flatnonzero(keys >= keys.max() + np.float32(np.log(params.min_p)))
    elif name == "typ_p":
        likely = p > 0  # what is never drawn adds nothing to the entropy
        surprise = np.full(len(p), np.inf)
        surprise[likely] = -np.log(p[likely])
        entropy = (p[likely] * surprise[likely]).sum()
        keys = -np.abs(surprise - entropy - nudge / 100).astype(np.float32)
        order = _descending(keys, ids)
        n = np.searchsorted(np.cumsum(p[order]), params.typical_p + nudge, side="right") + 1
        kept = order[:n]
    else:
        order = _descending(keys, ids)
        n = np.searchsorted(np.cumsum(p[order]), params.top_p + nudge, side="left") + 1
        kept = order[:n]
    return np.union1d(kept, _descending(keys, ids)[: params.min_keep]).astype(int)


def _exclude(x, ids, params, number, nudge):
    if number >= params.xtc_probability or len(ids) < 2:
        return np.arange(len(ids))
    reached = np.flatnonzero(_probabilities(x) >= params.xtc_threshold + nudge)
    order = reached[_descending(x[reached].astype(np.float32), ids[reached])]
    if len(order) < 2 or len(ids) - len(order) + 1 < params.min_keep:
        return np.arange(len(ids))
    return np.setdiff1d(np.arange(len(ids)), order[:-1])


def _temperature(x, params):
    if params.dynatemp_range <= 0:
        return params.temperature
    if len(x) < 2:
        return 1.0
    p = _probabilities(x)
    p = p[p > 0]
    share = min(max(-(p * np.log(p)).sum() / np.log(len(x)), 0.0), 1.0)
    low = max(0.0, params.temperature - params.dynatemp_range)
    high = params.temperature + params.dynatemp_range
    return low + (high - low) * share**params.dynatemp_exponent


def chained(x, params, history=(), number=1.0, nudge=0.0):
    """(ids, logits as they are drawn from) of what the samplers leave, ids ascending."""
    ids = np.flatnonzero(x > -np.inf)
    x = x[ids].astype(np.float64)
    for name in active(params)[len(row_edits(params)) :]:
        if name in ("penalties", "dry"):
            x = penalised(name, x, ids, params, history)
            continue
        if name == "temperature":
            x = x / max(_temperature(x, params), 1e-30)
            continue
        kept = _exclude(x, ids, params, number, nudge)
        if name != "xtc":
            kept = np.sort(_cut(name, x, ids, params, nudge))
        ids, x = ids[kept], x[kept]
    return ids, x


def mirostat(x, params, mu, n_vocab):
    """(ids, probabilities) of what a draw with this mu may give."""
    ids = np.flatnonzero(x > -np.inf)
    x = x[ids].astype(np.float64) / params.temperature
    order = _descending(x, ids)
    p = _probabilities(x)
    if params.mirostat == 2:
        n = max(1, int((-np.log2(p[order]) <= mu).sum()))
    else:
        best = p[order[:100]]
        t = np.log(np.arange(2, len(best) + 1) / np.arange(1, len(best)))
        b = np.log(best[:-1] / best[1:])
        s = (t * b).sum() / (t * t).sum() if len(best) > 1 else 0.0
        n = 1
        if s > 1e-9:
            e = s - 1
            share = e / (1 - n_vocab**-e) if abs(e) > 1e-9 else 1 / np.log(n_vocab)
            n = max(1, int(min((share * 2**mu) ** (1 / s), n_vocab)))
    kept = np.sort(order[:n])
    return ids[kept], _probabilities(x[kept])


def next_mu(params, mu, probability):
    """mu after a draw of what had this probability."""
    return mu - params.mirostat_eta * (-np.log2(probability) - params.mirostat_tau)
