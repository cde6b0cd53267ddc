"""Keeping special tokens out of a user's text (RELIABILITY class O).

Before a chat template is rendered, every text that a user supplied gets a mark, a Unicode
noncharacter, inside each occurrence of a special token's text. What the template itself wrote
has no marks, so after rendering only that can match; the marks are dropped from the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from slotmux.runtime.tokenizer.partition import trie_pattern

MARKS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chat prompt. ``marked`` holds ``mark`` wherever a user's text has, or could become
    part of, the text of a special token."""

    marked: str
    mark: str

    @property
    def text(self) -> str:
        """The prompt as it is meant to be read."""
        return self.marked.replace(self.mark, "")


class SpecialGuard:
    """Marks users' texts for one vocabulary. Immutable, so safe on several threads."""

    def __init__(self, texts: Iterable[str]) -> None:
        """``texts`` of the special tokens that a user must not be able to write."""
        # Case is ignored so that a template which changes it cannot undo a mark.
        self.texts = frozenset(text for text in texts if len(text) > 1)
        folded = {text.lower() for text in self.texts}
        self._inside = _compile(trie_pattern(folded)) if folded else None
        heads = {text[:n] for text in folded for n in range(1, len(text))}
        tails = {text[n:] for text in folded for n in range(1, len(text))}
        self._heads, self._tails = heads, tails
        self._longest = max(map(len, folded), default=0)
        self._all = "\0".join(folded)

    def mark(self, text: str, mark: str) -> str:
        """``text`` with ``mark`` inside each special text, and at an end of ``text`` where the
        template's own text could make it part of one."""
        if self._inside is None or not text:
            return text
        cuts = set()
        found = self._inside.search(text)
        while found:  # overlapping occurrences too
            cuts.add(found.start() + 1)
            found = self._inside.search(text, found.start() + 1)
        cuts.update(self._open_ends(text))
        if not cuts:
            return text
        pieces, done = [], 0
        for cut in sorted(cuts):
            pieces.append(text[done:cut])
            done = cut
        return mark.join([*pieces, text[done:]])

    def _open_ends(self, text: str) -> Iterable[int]:
        sizes = range(1, min(self._longest, len(text) + 1))
        inner = len(text) < self._longest and text.lower() in self._all
        tail = text[-self._longest :].lower()
        if inner or any(tail[-size:] in self._heads for size in sizes):
            yield len(text)
        head = text[: self._longest].lower()
        if inner or any(head[:size] in self._tails for size in sizes):
            yield 0


def choose_mark(texts: Iterable[str]) -> str | None:
    """A noncharacter that none of ``texts`` holds, None if they hold them all."""
    used: set[str] = set()
    for text in texts:
        used.update(re.findall("[\ufdd0-\ufdef]", text))
    return next((mark for mark in MARKS if mark not in used), None)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
