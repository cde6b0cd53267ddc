"""Samplers in an order of their own: each works on the list of candidates that those before have
left. The usual ones in the usual order take a shorter way (truncation.py).

top_n_sigma (Tang et al. 2024), xtc ("exclude top choices", p-e-w, text-generation-webui pull
request 6335), temperature by entropy (koboldcpp pull request 560), mirostat (mirostat.py).
"""

from __future__ import annotations

import numpy as np

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_f64, load_i32, load_i64, store_f32, store_i32
from slotmux.kernels.ops.sampling.codes import (
    BITS,
    DRY,
    DYNAMIC_TEMPERATURE,
    MIN_P,
    PENALTIES,
    TEMPERATURE,
    TOP_K,
    TOP_N_SIGMA,
    TYP_P,
    XTC,
)
from slotmux.kernels.ops.sampling.cutoff import find_cut, gather_largest, prune
from slotmux.kernels.ops.sampling.edits import penalise_listed
from slotmux.kernels.ops.sampling.logits import (
    LOWEST,
    SPAN,
    exponentials,
    gather,
    inlined,
    inner,
    span_at,
    uniform,
)
from slotmux.kernels.ops.sampling.mirostat import draw_near_surprise, keeps_surprise
from slotmux.kernels.ops.sampling.slot_words import SLOT
from slotmux.kernels.ops.sampling.truncation import (
    draw_listed,
    largest,
    top_p_cut,
    typical_cut,
    weight_of,
)
from slotmux.kernels.scalar import exp, log

_MASK = (1 << BITS) - 1
_INF = np.float32(np.inf)
_LARGEST = np.float32(np.finfo(np.float32).max)


@inner
def _row_moment(row, mean, power):
    """Sum over the finite values of a row of 1, value, or (value - mean) ** 2; ``power`` 0 to 2."""
    total = 0.0
    zero, one, none = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0)), simd.splat(-_INF)
    means = simd.splat(np.float32(mean))
    for i in range(row.n_spans):
        at, part = span_at(row, i), zero
        for j in range(SPAN // 16):
            v = simd.load(at + 64 * j)
            term = one
            if power == 1:
                term = v
            elif power == 2:
                term = (v - means) * (v - means)
            part = part + simd.where_less(none, v, term, zero)
        total += np.float64(simd.sum_lanes(part))
    return total


@inlined
def _row_sigma(row):
    """Standard deviation of the finite values of a row."""
    n = _row_moment(row, 0.0, 0)
    mean = _row_moment(row, 0.0, 1) / n
    return np.sqrt(_row_moment(row, mean, 2) / n)


@inlined
def _sigma(values, n):
    """Standard deviation of n values."""
    mean, total = 0.0, 0.0
    for i in range(n):
        mean += np.float64(load_f32(values + 4 * i))
    mean /= n
    for i in range(n):
        difference = np.float64(load_f32(values + 4 * i)) - mean
        total += difference * difference
    return np.sqrt(total / n)


@inner
def _below(top, distance):
    """The value that lies so far below the largest; the lowest where that overflows."""
    value = np.float32(np.float64(top) - distance)
    return value if value > LOWEST else LOWEST


@inlined
def _first_list(slot, code, row, top, w):
    """List what the first sampler leaves of a row if it can be told without a list; else -1."""
    if code == TOP_K:
        k = load_i64(slot + SLOT.top_k)
        return gather_largest(row, w.maxima, k, w.ids, w.values, w.index, w.bins)
    floor = LOWEST
    if code == TOP_N_SIGMA:
        floor = _below(top, load_f64(slot + SLOT.top_n_sigma) * _row_sigma(row))
    elif code == MIN_P and load_i64(slot + SLOT.min_keep) <= 1:
        floor = max(top + np.float32(load_f64(slot + SLOT.log_min_p)), LOWEST)
    else:
        return np.int64(-1)
    return gather(row, w.maxima, floor, w.ids, w.values)


@inner
def _at_least(keys, n, n_kept, cut, w):
    """A cut that keeps what another does, and ``n_kept`` of n keys at least."""
    if n_kept <= 1:
        return cut
    other = find_cut(keys, np.int64(0), n, np.float64(min(n_kept, n)), w.index, w.bins)
    if other[0] < cut[0] or (other[0] == cut[0] and other[1] > cut[1]):
        return other
    return cut


@inlined
def _truncate(slot, code, n, w):
    """What top_k, top_n_sigma, min_p, top_p and typ_p leave of n candidates."""
    top, n_kept = largest(w.values, n), load_i64(slot + SLOT.min_keep)
    if code == TYP_P:
        cut = _at_least(w.keys, n, n_kept, typical_cut(slot, n, top, w), w)
        return prune(w.ids, w.values, w.keys, n, cut)
    if code == TOP_K:
        k = load_i64(slot + SLOT.top_k)
        cut = find_cut(w.values, np.int64(0), n, np.float64(min(k, n)), w.index, w.bins)
    elif code == TOP_N_SIGMA:
        cut = (_below(top, load_f64(slot + SLOT.top_n_sigma) * _sigma(w.values, n)), n)
    elif code == MIN_P:
        floor = max(top + np.float32(load_f64(slot + SLOT.log_min_p)), LOWEST)
        cut = _at_least(w.values, n, n_kept, (floor, n), w)
    else:
        cut = _at_least(w.values, n, n_kept, top_p_cut(slot, n, top, 0.0, w), w)
    return prune(w.ids, w.values, w.values, n, cut)


@inlined
def _exclude_top(slot, pos, n, w):
    """XTC: of the tokens that reach the threshold only the least likely one stays."""
    if n < 2 or uniform(load_i64(slot + SLOT.xtc_key), pos) >= load_f64(
        slot + SLOT.xtc_probability
    ):
        return n
    exponentials(w.values, n, largest(w.values, n), w.weights)
    least = load_f64(slot + SLOT.xtc_threshold) * weight_of(w.weights, n)
    n_reached, last = 0, np.int64(-1)
    for i in range(n):
        if np.float64(load_f32(w.weights + 4 * i)) >= least:
            n_reached += 1
            if last < 0 or load_f32(w.values + 4 * i) <= load_f32(w.values + 4 * last):
                last = np.int64(i)
    if n_reached < 2 or n - n_reached + 1 < load_i64(slot + SLOT.min_keep):
        return n
    m = 0
    for i in range(n):
        is_out = np.float64(load_f32(w.weights + 4 * i)) >= least and i != last
        store_i32(w.ids + 4 * m, load_i32(w.ids + 4 * i))
        store_f32(w.values + 4 * m, load_f32(w.values + 4 * i))
        m += 1 - np.int64(is_out)
    return m


@inlined
def _dynamic_factor(slot, n, w):
    """1 / temperature by the entropy of the candidates, as a share of the largest possible."""
    top, total, moment = largest(w.values, n), 0.0, 0.0
    exponentials(w.values, n, top, w.weights)
    for i in range(n):
        weight = np.float64(load_f32(w.weights + 4 * i))
        total += weight
        if weight > 0.0:
            moment += weight * (np.float64(load_f32(w.values + 4 * i)) - np.float64(top))
    entropy = log(total) - moment / total
    share = min(max(entropy / log(np.float64(n)), 0.0), 1.0)
    exponent = load_f64(slot + SLOT.temperature_exponent)
    if exponent != 1.0 and (share > 0.0 or exponent == 0.0):
        share = exp(exponent * log(share)) if exponent != 0.0 else 1.0
    low, high = load_f64(slot + SLOT.temperature_low), load_f64(slot + SLOT.temperature_high)
    return 1.0 / max(low + (high - low) * share, 1e-30)


@inlined
def _scale(slot, code, n, w):
    """Divide the values by the temperature."""
    factor = load_f64(slot + SLOT.inverse_temperature)
    if code == DYNAMIC_TEMPERATURE:
        if n < 2:
            return
        factor = _dynamic_factor(slot, n, w)
    for i in range(n):
        value = np.float32(np.float64(load_f32(w.values + 4 * i)) * factor)
        store_f32(w.values + 4 * i, min(max(value, LOWEST), _LARGEST))


@inner
def draw_by_chain(slot, pos, row, top, chance, n_vocab, w):
    """The token drawn at ``pos`` as the slot's chain says; ``top``: largest of the row."""
    if keeps_surprise(slot):
        return draw_near_surprise(slot, pos, row, top, chance, n_vocab, w)
    codes = load_i64(slot + SLOT.chain)
    n = _first_list(slot, codes & _MASK, row, top, w)
    if n < 0:
        n = gather(row, w.maxima, LOWEST, w.ids, w.values)
    else:
        codes >>= BITS
    while codes != 0:
        code = codes & _MASK
        codes >>= BITS
        if code in (PENALTIES, DRY):
            penalise_listed(slot, code, pos, n, n_vocab, w)
        elif code in (TEMPERATURE, DYNAMIC_TEMPERATURE):
            _scale(slot, code, n, w)
        elif code == XTC:
            n = _exclude_top(slot, pos, n, w)
        else:
            n = _truncate(slot, code, n, w)
    return load_i32(w.ids + 4 * draw_listed(n, np.float32(1.0), chance, w))
