"""Which tokens may be drawn: top_k, typical_p (Meister et al. 2022), top_p (Holtzman et al. 2019)
and min_p (Nguyen et al. 2024), each on what the one before has kept."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.address import load_f32, load_f64, load_i64, store_f32
from slotmux.kernels.ops.sampling.cutoff import find_cut, gather_largest, prune
from slotmux.kernels.ops.sampling.logits import (
    LOWEST,
    SPAN,
    Row,
    draw,
    exponentials,
    gather,
    inlined,
    inner,
    pad,
    span_maxima,
    span_sums,
)
from slotmux.kernels.ops.sampling.slot_words import (
    SLOT,
    has_min_p,
    has_top_k,
    has_top_p,
    has_typical_p,
)
from slotmux.kernels.scalar import log


@inner
def is_truncated(slot, n_vocab):
    """Whether some tokens may not be drawn."""
    return has_top_k(slot, n_vocab) or has_typical_p(slot) or has_top_p(slot) or has_min_p(slot)


@inner
def looks_at_whole_row(slot, n_vocab):
    """Whether top_p needs the sum of exp over the row."""
    return has_top_p(slot) and not has_top_k(slot, n_vocab) and not has_typical_p(slot)


@inner
def _floor(slot, top, total, n_vocab):
    """A value below which top_p and min_p keep nothing of the whole row."""
    floor = max(LOWEST, top + np.float32(load_f64(slot + SLOT.log_min_p)))
    # All values below top + log(share) together weigh less than what top_p drops.
    share = (1.0 - load_f64(slot + SLOT.top_p)) * total / n_vocab
    if share > 0.0:
        floor = max(floor, np.float32(np.float64(top) + log(share) - 0.01))
    return floor


@inner
def weight_of(weights, n):
    """The sum of n weights."""
    total = 0.0
    for i in range(n):
        total += np.float64(load_f32(weights + 4 * i))
    return total


@inner
def largest(values, n):
    """The largest of n values."""
    top = load_f32(values)
    for i in range(1, n):
        top = max(top, load_f32(values + 4 * i))
    return top


@inner
def typical_cut(slot, n, top, w):
    """Keeps the values whose surprise -log p is nearest to the mean surprise; a cut of w.keys."""
    exponentials(w.values, n, top, w.weights)
    total, moment = 0.0, 0.0
    for i in range(n):
        weight = np.float64(load_f32(w.weights + 4 * i))
        total += weight
        moment += weight * (np.float64(load_f32(w.values + 4 * i)) - top)
    for i in range(n):
        distance = abs(np.float64(load_f32(w.values + 4 * i)) - top - moment / total)
        store_f32(w.keys + 4 * i, np.float32(-distance))
    target = load_f64(slot + SLOT.typical_p) * total * (1.0 + 2.0**-52)  # must be passed
    return find_cut(w.keys, w.weights, n, target, w.index, w.bins)


@inner
def top_p_cut(slot, n, top, total, w):
    """Keeps the fewest values that hold top_p of ``total`` (0: of what is listed)."""
    exponentials(w.values, n, top, w.weights)
    if total == 0.0:
        total = weight_of(w.weights, n)
    target = load_f64(slot + SLOT.top_p) * total
    return find_cut(w.values, w.weights, n, target, w.index, w.bins)


@inlined
def list_candidates(slot, row, top, total, n_vocab, w):
    """List ids and values of what may be drawn, in ascending order of ids; how many they are.

    ``top``: largest of the row; ``total``: its sum of exp(value - top), where that is looked at.
    """
    if has_top_k(slot, n_vocab):
        k = load_i64(slot + SLOT.top_k)
        n = gather_largest(row, w.maxima, k, w.ids, w.values, w.index, w.bins)
        total = 0.0
    elif has_typical_p(slot):
        n = gather(row, w.maxima, LOWEST, w.ids, w.values)
        total = 0.0
    else:
        n = gather(row, w.maxima, _floor(slot, top, total, n_vocab), w.ids, w.values)
    if has_typical_p(slot):
        cut = typical_cut(slot, n, top, w)
        n = prune(w.ids, w.values, w.keys, n, cut)
        top = largest(w.values, n)
    if has_top_p(slot):
        n = prune(w.ids, w.values, w.values, n, top_p_cut(slot, n, top, total, w))
    if has_min_p(slot):
        floor = top + np.float32(load_f64(slot + SLOT.log_min_p))
        n = prune(w.ids, w.values, w.values, n, (floor, n))
    return n


@inner
def draw_listed(n, factor, chance, w):
    """Draw one of the n listed candidates; its place in the list."""
    n_spans = (n + SPAN - 1) // SPAN
    pad(w.values, n, SPAN * n_spans)
    listed = Row(w.values, n_spans, n_spans, w.tail)
    top = span_maxima(listed, w.keys)
    total = span_sums(listed, top, factor, w.sums)
    return draw(listed, top, factor, w.sums, chance * total, w.weights)
