"""Finds every token that is two other tokens put together, for score-driven merging.

A vocabulary of 260,000 tokens has 1.5 million places to cut; slicing and looking them up one
by one takes longer than everything else at load. So the places are hashed all at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

U64s: TypeAlias = npt.NDArray[np.uint64]
Ints: TypeAlias = npt.NDArray[np.int64]

# An odd base has an inverse modulo 2**64, so a hash can be moved to position 0.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_TABLE_BITS = 23
_TABLE_SHIFT = np.uint64(64 - _TABLE_BITS)


@dataclass(frozen=True, slots=True)
class Merges:
    """``pairs`` in the order of their priority, and the texts that score like another one."""

    pairs: list[tuple[str, str]]
    tied: set[str]


def find_merges(tokens: list[str], scores: npt.NDArray[np.floating]) -> Merges:
    """All (left, right) with left + right in ``tokens``: the highest score of the joint token
    first, then the lowest id, then the longest left part. ``tokens`` are distinct."""
    # Lowest priority first and reversed at the end, which also puts long left parts first.
    order = np.argsort(-scores, kind="stable")[::-1]
    spans = _Spans([tokens[token_id] for token_id in order])
    whole, left, right = spans.cuts()
    whole, left, right = whole[::-1], left[::-1], right[::-1]
    texts = np.empty(len(tokens), object)
    texts[:] = spans.texts
    pairs = list(zip(_take(texts, left), _take(texts, right), strict=True))
    mergeable = whole[np.flatnonzero(np.diff(whole, prepend=-1))]
    same = np.flatnonzero(np.diff(scores[order[mergeable]]) == 0)
    tied = set(_take(texts, mergeable[same])) | set(_take(texts, mergeable[same + 1]))
    return Merges(pairs, tied)


def _take(texts: npt.NDArray[np.object_], indices: Ints) -> list[str]:
    found: list[str] = texts[indices].tolist()
    return found


class _Spans:
    """Hashes of the parts of texts: of characters c, the sum of c[k] * base**k mod 2**64."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        n = len(points)
        chars = (points.astype(np.uint64) + np.uint64(1)) * _SPREAD
        chars ^= chars >> np.uint64(29)
        sums = np.zeros(n + 1, np.uint64)
        np.cumsum(chars * _powers(_BASE, n), out=sums[1:])
        self._sums, self._unshift = sums, _powers(_INVERSE, n)

    def cuts(self) -> tuple[Ints, Ints, Ints]:
        """Indices (whole, left, right) of all cuts of a text into two texts, in order."""
        hashes = self._hash(self._starts, self._ends)
        by_hash = np.argsort(hashes)
        ordered = hashes[by_hash]
        # Most parts are no token: a table of a byte for each of the hashes' upper bits says so
        # in one access, where a search takes twenty.
        is_likely = np.zeros(1 << _TABLE_BITS, bool)
        is_likely[ordered >> _TABLE_SHIFT] = True
        inner = np.ones(len(self._unshift), bool)
        inner[self._starts] = False
        cut = np.flatnonzero(inner)
        whole = np.repeat(np.arange(len(self.texts)), self._ends - self._starts)[cut]
        lefts = self._hash(self._starts[whole], cut)
        kept = is_likely[lefts >> _TABLE_SHIFT]
        cut, whole, lefts = cut[kept], whole[kept], lefts[kept]
        rights = self._hash(cut, self._ends[whole])
        kept = is_likely[rights >> _TABLE_SHIFT]
        whole, lefts, rights = whole[kept], lefts[kept], rights[kept]
        left, right = _find(ordered, lefts), _find(ordered, rights)
        kept = (left >= 0) & (right >= 0)
        return whole[kept], by_hash[left[kept]], by_hash[right[kept]]

    def _hash(self, starts: Ints, ends: Ints) -> U64s:
        return (self._sums[ends] - self._sums[starts]) * self._unshift[starts]


def _powers(base: int, n: int) -> U64s:
    powers = np.full(n, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _find(ordered: U64s, wanted: U64s) -> Ints:
    """Where each of ``wanted`` stands in ``ordered``, -1 if it is not there."""
    places = np.searchsorted(ordered, wanted)
    places[places == len(ordered)] = 0
    return np.where(ordered[places] == wanted, places, -1)
