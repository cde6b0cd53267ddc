"""Sets of characters, and automata over them, of the parts of a GBNF grammar without recursion."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from slotmux.server.grammars.gbnf import Chars, Either, Node, Ref, Repeat, Rules, Sequence, Text

END = 0x110000


class TooLargeError(Exception):
    """More than is looked at."""


class Atoms:
    """The characters in classes that no part of a grammar tells apart; a set of them is the bits of
    an integer."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        bounds, todo = {0}, list(nodes)
        while todo:
            node = todo.pop()
            if isinstance(node, Repeat):
                todo.append(node.item)
            elif isinstance(node, Sequence | Either):
                todo += node.items
            elif isinstance(node, Text):
                for code in set(map(ord, node.chars)):
                    bounds |= {code, code + 1}
            elif isinstance(node, Chars):
                for low, high in node.ranges:
                    bounds |= {low, high + 1}
        self._starts = sorted(bounds - {END})
        self._all = (1 << len(self._starts)) - 1

    def of_char(self, char: str) -> int:
        return 1 << (bisect_right(self._starts, ord(char)) - 1)

    def of(self, node: Chars) -> int:
        found = 0
        for low, high in node.ranges:
            begin, end = bisect_left(self._starts, low), bisect_left(self._starts, high + 1)
            found |= (1 << end) - (1 << begin)
        return self._all & ~found if node.is_negated else found


@dataclass(slots=True)
class Automaton:
    """Positions, each with its characters. Repetitions are taken for any number: it takes all that
    its part takes, and more."""

    chars: list[int]
    follow: list[set[int]]
    first: set[int] = field(default_factory=set)
    last: set[int] = field(default_factory=set)
    is_nullable: bool = True

    @property
    def first_chars(self) -> int:
        return self._any(self.first)

    def _any(self, positions: Iterable[int]) -> int:
        found = 0
        for position in positions:
            found |= self.chars[position]
        return found

    def clashes(self, other: Automaton, follow: int, n_most: int) -> tuple[bool, int]:
        """Whether a text of this one's, with one of the characters ``follow`` behind it, is how a
        text of the other's begins; and how many pairs of positions that took to find out. Raises
        TooLargeError beyond ``n_most``."""
        todo = [(p, q) for p in self.first for q in other.first if self.chars[p] & other.chars[q]]
        seen = set(todo)
        while todo:
            if len(seen) > n_most:
                raise TooLargeError
            p, q = todo.pop()
            if p in self.last and other._any(other.follow[q]) & follow:
                return True, len(seen)
            for next_p in self.follow[p]:
                for next_q in other.follow[q]:
                    pair = next_p, next_q
                    if pair not in seen and self.chars[next_p] & other.chars[next_q]:
                        seen.add(pair)
                        todo.append(pair)
        return False, len(seen)


@dataclass(slots=True)
class _Part:
    first: set[int]
    last: set[int]
    is_nullable: bool


def automaton(node: Node, rules: Rules, atoms: Atoms, n_most: int) -> Automaton:
    """Of a part that leads neither to itself nor to a token. Raises TooLargeError beyond ``n_most``
    positions."""
    made = Automaton([], [])
    part = _Maker(made, rules, atoms, n_most).part(node, 0)
    made.first, made.last, made.is_nullable = part.first, part.last, part.is_nullable
    return made


class _Maker:
    """Glushkov's construction; of repetitions the part stands once."""

    def __init__(self, made: Automaton, rules: Rules, atoms: Atoms, n_most: int) -> None:
        self._made, self._rules, self._atoms, self._n_most = made, rules, atoms, n_most
        self._n_nodes = 0

    def part(self, node: Node, depth: int) -> _Part:
        self._n_nodes += 1
        if self._n_nodes > 4 * self._n_most or depth > self._n_most:
            raise TooLargeError
        if isinstance(node, Ref):
            return self.part(self._rules[node.name], depth + 1)
        if isinstance(node, Repeat):
            return self._repeated(node, depth)
        if isinstance(node, Either):
            parts = [self.part(item, depth + 1) for item in node.items]
            return _Part(
                set[int]().union(*(part.first for part in parts)),
                set[int]().union(*(part.last for part in parts)),
                any(part.is_nullable for part in parts),
            )
        if isinstance(node, Chars):
            return self._position(self._atoms.of(node))
        if isinstance(node, Text):
            return self._in_a_row([self._position(self._atoms.of_char(c)) for c in node.chars])
        assert isinstance(node, Sequence)
        return self._in_a_row([self.part(item, depth + 1) for item in node.items])

    def _position(self, chars: int) -> _Part:
        made = self._made
        if len(made.chars) >= self._n_most:
            raise TooLargeError
        made.chars.append(chars)
        made.follow.append(set())
        here = {len(made.chars) - 1}
        return _Part(here, here, False)

    def _repeated(self, node: Repeat, depth: int) -> _Part:
        part = self.part(node.item, depth + 1)
        if node.high == 0:
            return _Part(set(), set(), True)
        if node.high != 1:
            self._link(part.last, part.first)
        return _Part(part.first, part.last, part.is_nullable or node.low == 0)

    def _in_a_row(self, parts: list[_Part]) -> _Part:
        whole = _Part(set(), set(), True)
        for part in parts:
            self._link(whole.last, part.first)
            first = whole.first | part.first if whole.is_nullable else whole.first
            last = whole.last | part.last if part.is_nullable else part.last
            whole = _Part(first, last, whole.is_nullable and part.is_nullable)
        return whole

    def _link(self, last: set[int], first: set[int]) -> None:
        for position in last:
            self._made.follow[position] |= first
