"""Where a descending order is cut: the k largest, or the fewest that hold a given weight.

Nothing is sorted. The keys are counted into bins of equal width, the bin in which the cut lies is
looked at again, and so on until all keys of the bin are equal: of those, earlier ones come first.
"""

from __future__ import annotations

import numpy as np

from slotmux.kernels.address import load_f32, load_f64, load_i32, store_f32, store_f64, store_i32
from slotmux.kernels.ops.sampling.logits import LOWEST, gather, inner

N_BINS = 1024
_INF = np.float32(np.inf)


@inner
def _key(keys, index, j):
    return load_f32(keys + 4 * load_i32(index + 4 * j))


@inner
def _weight(weights, index, j):
    """Weight of the j-th listed key; 1 each where ``weights`` is 0."""
    if weights == 0:
        return 1.0
    return np.float64(load_f32(weights + 4 * load_i32(index + 4 * j)))


@inner
def _range(keys, index, m):
    low = high = _key(keys, index, 0)
    for j in range(1, m):
        key = _key(keys, index, j)
        low, high = min(low, key), max(high, key)
    return np.float64(low), np.float64(high)


@inner
def _bin(key, high, scale):
    # float64 holds the span of any two float32. Rounding never changes the order of two keys.
    return min(N_BINS - 1, np.int64((high - np.float64(key)) * scale))


@inner
def _find_bin(bins, done, target):
    """The bin in which the running weight reaches the target (-1: none), and the weight before."""
    for i in range(N_BINS):
        after = done + load_f64(bins + 8 * i)
        if after >= target:
            return i, done
        done = after
    return -1, done


@inner
def find_cut(keys, weights, n, target, index, bins):
    """Which of n keys to keep, in descending order, until their weights reach ``target``.

    ``weights`` 0 counts keys. Returns (key, last): kept are larger keys, and equal ones up to
    place ``last``; (-inf, n) keeps all. Keys of -inf do not take part. ``index``: room for n
    int32; ``bins``: for N_BINS float64.
    """
    m = 0
    for i in range(n):
        store_i32(index + 4 * m, i)
        m += np.int64(load_f32(keys + 4 * i) > -_INF)
    if m == 0:
        return -_INF, n
    done, is_whole = 0.0, True
    low, high = _range(keys, index, m)
    while low < high:
        scale = (N_BINS - 1) / (high - low)
        for i in range(N_BINS):
            store_f64(bins + 8 * i, 0.0)
        for j in range(m):
            at = bins + 8 * _bin(_key(keys, index, j), high, scale)
            store_f64(at, load_f64(at) + _weight(weights, index, j))
        found, done = _find_bin(bins, done, target)
        if found < 0:
            return -_INF if is_whole else np.float32(low), n
        m, is_whole = _only_bin(keys, index, m, high, scale, found), False
        low, high = _range(keys, index, m)
    for j in range(m):
        done += _weight(weights, index, j)
        if done >= target:
            return np.float32(low), np.int64(load_i32(index + 4 * j))
    return -_INF if is_whole else np.float32(low), n


@inner
def _only_bin(keys, index, m, high, scale, found):
    """Keep in the list what fell into one bin; how many that are."""
    n = 0
    for j in range(m):
        i = load_i32(index + 4 * j)
        store_i32(index + 4 * n, i)
        n += np.int64(_bin(load_f32(keys + 4 * i), high, scale) == found)
    return n


@inner
def prune(ids, values, keys, n, cut):
    """Drop from a list what the cut does not keep; how many are left."""
    key, last = cut
    m = 0
    for i in range(n):
        k = load_f32(keys + 4 * i)
        # Written whether kept or not: a branch that goes either way costs more.
        store_i32(ids + 4 * m, load_i32(ids + 4 * i))
        store_f32(values + 4 * m, load_f32(values + 4 * i))
        m += np.int64(k > key) | (np.int64(k == key) & np.int64(i <= last))
    return m


@inner
def gather_largest(row, maxima, k, ids, values, index, bins):
    """List the k largest values of a row in ascending order of their index; how many they are.

    The k-th largest of the spans' maxima is not above the k-th largest value.
    """
    floor, _ = find_cut(maxima, np.int64(0), row[2], np.float64(k), index, bins)
    n = gather(row, maxima, max(floor, LOWEST), ids, values)
    if n <= k:
        return n
    cut = find_cut(values, np.int64(0), n, np.float64(k), index, bins)
    return prune(ids, values, values, n, cut)
