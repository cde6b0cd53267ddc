"""Merges learned from texts that nobody cut: they join across whatever a pre-tokenizer parts, so
that a word that begins or ends at the wrong place has other tokens."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence


def learn(texts: Sequence[str], n_merges: int) -> list[tuple[str, str]]:
    """The most frequent neighbours first; of equals, what is first by its characters."""
    words = [list(text) for text in texts]
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if len("".join(best)) > 24:  # no whole texts
            counts = Counter({p: n for p, n in counts.items() if len("".join(p)) <= 24})
            if not counts:
                break
            best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        words = [_joined(word, best) for word in words]
    return merges


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out
