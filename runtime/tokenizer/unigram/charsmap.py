"""SentencePiece's precompiled map of characters: which short texts are replaced, and by what.

The file has it as an XOR-compressed double array (Kanda 2018): a trie of UTF-8 bytes, 32 bits a
node, then the replacements, each ended by a zero byte. NFKC has 225,000 such texts (every way to
write a syllable), so they are not listed: the trie is walked where one may begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]

MAX_BYTES = 1 << 24
_MAX_CHARS = 64  # of a text that is replaced; NFKC's longest have 4
_SLICE = 1 << 13
# First bytes of a character: ASCII without NUL, then those of two, three and four bytes.
_FIRST = np.r_[1:0x80, 0xC2:0xF5]
_NEXT = np.r_[0x80:0xC0]
# Of a node: the byte that leads to it (a value has the highest bit), whether a text ends there;
# of a value: where its replacement begins.
_CHECK, _LEAF, _VALUE = 1 << 31 | 0xFF, 1 << 8, (1 << 31) - 1


class CharsMapError(ValueError):
    """The bytes are no map of characters."""


class CharsMap:
    """Immutable, so safe on several threads."""

    def __init__(self, data: bytes, kept: Iterable[str] = ()) -> None:
        """``kept``: texts that are not touched, nor what begins like them. Raises CharsMapError."""
        trie = _Trie.parse(data)
        firsts, followers = trie.survey()
        self._trie = trie
        self._kept = _prefix_tree(kept)
        alone = {char for char, (is_text, _) in firsts.items() if is_text}
        heads = {char for char, (_, goes_on) in firsts.items() if goes_on}
        simple = alone - heads - self._kept.keys()
        self._simple = {ord(char): trie.longest(char)[1] for char in simple}
        self._places = _places(simple, self._kept.keys() | (alone & heads), heads, followers)

    def apply(self, text: str) -> str:
        """``text`` with the longest text of the map at each place replaced, from the left."""
        if self._places is None:
            return text
        out: list[str] = []
        done = 0
        found = self._places.search(text)
        while found:
            start, end = found.span()
            out.append(text[done:start])
            if found.lastgroup:  # a run of characters that no longer text begins with
                out.append(text[start:end].translate(self._simple))
                done = end
            else:
                done, replacement = self._at(text, start)
                out.append(replacement)
            found = self._places.search(text, done)
        out.append(text[done:])
        return "".join(out)

    def _at(self, text: str, start: int) -> tuple[int, str]:
        """Where what is replaced at ``start`` ends, and by what."""
        node, end = self._kept, start
        while end < len(text) and text[end] in node:
            node, end = node[text[end]], end + 1
        if end > start:
            return end, text[start:end]
        end, replacement = self._trie.longest(text, start)
        return (end, replacement) if end > start else (start + 1, text[start])


def _prefix_tree(texts: Iterable[str]) -> dict[str, dict]:  # type: ignore[type-arg]
    root: dict[str, dict] = {}  # type: ignore[type-arg]
    for text in texts:
        node = root
        for char in text:
            node = node.setdefault(char, {})
    return root


def _places(
    simple: set[str], always: set[str], heads: set[str], followers: set[str]
) -> re.Pattern[str] | None:
    """Where something may be replaced; the group is a run of ``simple`` characters."""
    parts = []
    if simple:
        parts.append(f"(?P<simple>{_any_of(simple)}+)")
    if always:
        parts.append(_any_of(always))
    if heads and followers:
        parts.append(f"{_any_of(heads)}(?={_any_of(followers)})")
    return re.compile("|".join(parts)) if parts else None


def _any_of(chars: set[str]) -> str:
    return f"[{''.join(map(re.escape, sorted(chars)))}]"


@dataclass(frozen=True, slots=True)
class _Trie:
    """``units`` [n] uint32 and the same as a list; ``texts``: the replacements' bytes."""

    units: npt.NDArray[np.uint32]
    nodes: list[int]
    texts: bytes

    @classmethod
    def parse(cls, data: bytes) -> _Trie:
        if not 8 < len(data) <= MAX_BYTES:
            raise CharsMapError(f"it has {len(data)} bytes")
        size = int.from_bytes(data[:4], "little")
        if size % 4 or not 4 <= size < len(data) - 4:
            raise CharsMapError(f"its trie has {size} of {len(data)} bytes")
        texts = data[4 + size :]
        if texts[-1]:
            raise CharsMapError("its last replacement has no end")
        try:
            texts.decode()
        except UnicodeDecodeError as error:
            raise CharsMapError(f"its replacements are not UTF-8: {error.reason}") from None
        units = np.frombuffer(data, "<u4", size // 4, 4)
        return cls(units, units.tolist(), texts)

    def survey(self) -> tuple[dict[str, tuple[bool, bool]], set[str]]:
        """First characters with whether they are a text and begin longer ones, and all characters
        that are not the first. Checks every replacement."""
        _, codes, nodes = self._characters(np.array([_base(self.nodes[0])]))
        level = self._below(nodes)
        parents, later, ends = self._characters(level)
        goes_on = np.zeros(len(nodes), bool)
        goes_on[parents] = True
        is_text = self._is_leaf(nodes)
        seen = level
        while len(ends):
            # Equal ends of texts share nodes, so much of a level was seen on another.
            level = np.setdiff1d(self._below(ends), seen)
            seen = np.union1d(seen, level)
            _, more, ends = self._characters(level)
            later = np.union1d(later, more)
        flags = zip(is_text.tolist(), goes_on.tolist(), strict=True)
        firsts = dict(zip(map(chr, codes.tolist()), flags, strict=True))
        return firsts, set(map(chr, later.tolist()))

    def _characters(self, bases: Ints) -> tuple[Ints, Ints, Ints]:
        """One character on from each base: index of the base, code, node. Checks the nodes."""
        parent, byte, node = self._step(bases, _FIRST)
        is_ascii = byte < 0x80
        found = [(parent[is_ascii], byte[is_ascii], node[is_ascii])]
        for low, high, n_more in ((0xC0, 0xE0, 1), (0xE0, 0xF0, 2), (0xF0, 0x100, 3)):
            is_here = (byte >= low) & (byte < high)
            at, code, end = parent[is_here], byte[is_here] - low, node[is_here]
            for _ in range(n_more):
                index, more, end = self._step(self._below(end), _NEXT)
                at, code = at[index], code[index] << 6 | (more & 63)
            found.append((at, code, end))
        at, code, end = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = (code < 0xD800) | ((code > 0xDFFF) & (code < 0x110000))
        self._check(end[kept])
        return at[kept], code[kept], end[kept]

    def _step(self, bases: Ints, labels: Ints) -> tuple[Ints, Ints, Ints]:
        """One byte on from each base: index of the base, byte, node."""
        parts = []
        for start in range(0, max(1, len(bases)), _SLICE):
            node = bases[start : start + _SLICE, None] ^ labels
            is_inside = node < len(self.units)
            checks = self.units[np.where(is_inside, node, 0)] & _CHECK
            index, label = np.nonzero(is_inside & (checks == labels))
            parts.append((index + start, labels[label], node[index, label]))
        index, byte, found = (np.concatenate(part) for part in zip(*parts, strict=True))
        return index, byte, found

    def _below(self, nodes: Ints) -> Ints:
        """The bases of ``nodes``, from where their children are found."""
        return nodes ^ _bases(self.units[nodes])

    def _is_leaf(self, nodes: Ints) -> npt.NDArray[np.bool_]:
        return (self.units[nodes] & _LEAF).astype(bool)

    def _check(self, nodes: Ints) -> None:
        """Each of ``nodes`` that ends a text has a replacement, which begins with a character."""
        leaves = nodes[self._is_leaf(nodes)]
        values = self._below(leaves)
        if (values >= len(self.units)).any():
            raise CharsMapError("its trie leads outside")
        starts = (self.units[values] & _VALUE).astype(np.int64)
        if (starts >= len(self.texts)).any():
            raise CharsMapError("a replacement begins outside")
        text = np.frombuffer(self.texts, np.uint8)
        if (text[starts] & 0xC0 == 0x80).any():
            raise CharsMapError("a replacement begins inside a character")

    def longest(self, text: str, start: int = 0) -> tuple[int, str]:
        """The longest text of the map that ``text`` has at ``start``: where it ends, what replaces
        it. (start, "") if there is none."""
        nodes, n_nodes = self.nodes, len(self.nodes)
        base, best = _base(nodes[0]), (start, "")
        for place in range(start, min(len(text), start + _MAX_CHARS)):
            at = 0
            for byte in text[place].encode():
                at = base ^ byte
                if not byte or at >= n_nodes or nodes[at] & _CHECK != byte:
                    return best
                base = at ^ _base(nodes[at])
            if nodes[at] & _LEAF:
                begin = nodes[base] & _VALUE
                best = place + 1, self.texts[begin : self.texts.index(b"\0", begin)].decode()
        return best


def _base(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


def _bases(units: npt.NDArray[np.uint32]) -> Ints:
    wide = units.astype(np.int64)
    return (wide >> 10) << ((wide & 1 << 9) >> 6)
