"""Finding special tokens in a text, exactly as llama.cpp does: the longest token (in bytes)
takes all its occurrences first, then the next one searches what is left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Fragment: TypeAlias = str | int  # a piece of plain text, or the id of a special token

# What C's isspace takes.
_SPACES = " \t\n\v\f\r"


class SpecialMatcher:
    """Splits texts at special tokens. Immutable, so safe on several threads."""

    def __init__(
        self, texts: dict[str, int], rstrip: Iterable[int] = (), lstrip: Iterable[int] = ()
    ) -> None:
        """``texts`` maps a special token's text to its id; the ids in ``rstrip`` and ``lstrip``
        also eat the whitespace to their right and left."""
        self._ids = texts
        self._order = sorted(texts, key=lambda text: (-len(text.encode()), texts[text]))
        self._rstrip = frozenset(rstrip)
        self._lstrip = frozenset(lstrip)
        strips = self._rstrip | self._lstrip
        self._stripping = [text for text in self._order if texts[text] in strips]
        self._pattern = re.compile(trie_pattern(texts)) if texts else None
        self._charsets = {text: frozenset(text) for text in self._order}
        self._longest = max(map(len, texts), default=0)
        self._overlaps = Overlaps.of(self._order)

    def split(self, text: str) -> list[Fragment]:
        """``text`` as fragments in order; no fragment is an empty text."""
        if not text:
            return []
        if self._pattern is None:
            return [text]
        if any(special in text for special in self._stripping):
            # What is stripped depends on the order of the tokens, so take it literally.
            return self._split_in_order(text, self._order)
        fragments: list[Fragment] = []
        done = 0
        for start, end in self._clusters(text, self._pattern):
            if start > done:
                _add_text(fragments, text[done:start])
            cluster = text[start:end]
            whole = self._ids.get(cluster)
            if whole is not None:
                fragments.append(whole)
            else:
                for fragment in self._split_in_order(cluster, self._overlaps.involved):
                    if isinstance(fragment, str):
                        _add_text(fragments, fragment)
                    else:
                        fragments.append(fragment)
            done = end
        if done < len(text):
            _add_text(fragments, text[done:])
        return fragments

    def _clusters(self, text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
        """Spans of special tokens, those that overlap one another joined to one span."""
        found = pattern.search(text)
        while found:
            start, end = found.span()
            while found and text[found.start() : end] in self._overlaps.left:
                found = self._overlapping(text, pattern, start + 1, end)
                end = found.end() if found else end
            yield start, end
            found = pattern.search(text, end)

    def _overlapping(
        self, text: str, pattern: re.Pattern[str], start: int, end: int
    ) -> re.Match[str] | None:
        """A special token that begins before ``end`` and stops behind it."""
        for at in range(end - 1, max(start, end - self._longest) - 1, -1):
            found = pattern.match(text, at)
            if found and found.end() > end:
                return found
        return None

    def _split_in_order(self, text: str, specials: list[str]) -> list[Fragment]:
        """llama.cpp's own loop, for the few texts where the order of the tokens matters."""
        present = frozenset(text)
        fragments: list[Fragment] = [text]
        for special in specials:
            if not self._charsets[special] <= present or special not in text:
                continue
            cut: list[Fragment] = []
            for fragment in fragments:
                if isinstance(fragment, int):
                    cut.append(fragment)
                else:
                    self._cut(fragment, special, cut)
            fragments = cut
        return fragments

    def _cut(self, text: str, special: str, out: list[Fragment]) -> None:
        token_id = self._ids[special]
        if token_id not in self._rstrip:
            head, *tails = text.split(special)
        else:
            head, tails = text, []
            while special in head:
                piece, head = head.split(special, 1)
                tails.append(piece)
                head = head.lstrip(_SPACES)
            head, *tails = [*tails, head]
        if token_id in self._lstrip and tails:
            *before, last = (head, *tails)
            head, *tails = [*(piece.rstrip(_SPACES) for piece in before), last]
        if head:
            out.append(head)
        for tail in tails:
            out.append(token_id)
            if tail:
                out.append(tail)


def _add_text(fragments: list[Fragment], text: str) -> None:
    """Append ``text``, joined to a text before it: what overlapping tokens leave over is no
    fragment of its own."""
    if fragments and isinstance(fragments[-1], str):
        fragments[-1] += text
    else:
        fragments.append(text)


def trie_pattern(texts: Iterable[str]) -> str:
    """A regular expression that matches the longest of ``texts`` at a place. Common prefixes
    are shared, so that matching does not try thousands of alternatives one by one."""
    root: dict[str, dict] = {}  # type: ignore[type-arg]
    for text in texts:
        node = root
        for char in text:
            node = node.setdefault(char, {})
        node[""] = {}
    return _node_pattern(root)


def _node_pattern(node: dict[str, dict]) -> str:  # type: ignore[type-arg]
    run = ""
    while len(node) == 1 and "" not in node:  # a chain without a branch: no recursion
        (char, node) = next(iter(node.items()))
        run += re.escape(char)
    branches = [re.escape(c) + _node_pattern(child) for c, child in node.items() if c]
    if not branches:
        return run
    optional = "?" if "" in node else ""
    return f"{run}(?:{'|'.join(branches)}){optional}"


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Which special tokens can overlap in a text."""

    left: frozenset[str]  # another may begin inside these and go on behind them
    involved: list[str]  # all that may be found where two overlap, in the order of search

    @classmethod
    def of(cls, order: list[str]) -> Overlaps:
        prefixes = {text[:n] for text in order for n in range(1, len(text))}
        shared: set[str] = set()  # what two overlapping tokens have in common
        left = set()
        for text in order:
            ends = {text[-n:] for n in range(1, len(text))} & prefixes
            if ends:
                left.add(text)
                shared |= ends
        involved = left | {
            text for text in order if any(text[:n] in shared for n in range(1, len(text)))
        }
        inner = {
            text[i:j]
            for text in involved
            for i in range(len(text))
            for j in range(i + 1, len(text) + 1)
        }
        return cls(frozenset(left), [text for text in order if text in inner])
