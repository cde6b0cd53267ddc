"""Drafts by looking the last few tokens up in what the sequence already holds (prompt lookup)."""

from __future__ import annotations

import numpy as np

from slotmux.runtime.ubatch import I32

MIN_MATCH = 3  # equal tokens that make a place worth continuing from
MAX_MATCH = 12  # more than these do not make one place better than another


def lookup(history: I32, n_known: int, n_max: int) -> I32:
    """Up to ``n_max`` tokens that followed the latest of the longest earlier matches of the end of
    ``history[:n_known]``; empty without one. Past the end the found text repeats itself."""
    known = history[:n_known]
    if n_known <= MIN_MATCH:
        return known[:0]
    ends = np.flatnonzero(known[MIN_MATCH - 1 : -1] == known[-1]) + MIN_MATCH - 1
    for back in range(1, MIN_MATCH):
        ends = ends[known[ends - back] == known[-1 - back]]
    if not ends.size:
        return known[:0]
    for back in range(MIN_MATCH, min(MAX_MATCH, n_known - 1)):
        longer = ends[ends >= back]
        longer = longer[known[longer - back] == known[-1 - back]]
        if not longer.size:
            break
        ends = longer
    begin = int(ends[-1]) + 1
    found: I32 = known[begin + np.arange(n_max) % (n_known - begin)]
    return found
