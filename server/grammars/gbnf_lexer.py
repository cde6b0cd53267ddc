"""Which parts of a GBNF grammar can be words of a lexer that takes the longest that fits.

That is fast, and exact as long as no word can be followed by a character with which it, or another
word, would go on. Where that could be, the words are cut into smaller ones, down to characters,
which the parser then puts together: exact, but some milliseconds a token at a large vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slotmux.server.grammars.gbnf import Chars, Either, Node, Ref, Repeat, Rules, Sequence, Text
from slotmux.server.grammars.gbnf_sets import Atoms, Automaton, TooLargeError, automaton

MAX_POSITIONS = 400  # of one word's automaton
MAX_PAIRS = 100_000  # of positions looked at together
MAX_STEPS = 100_000  # through the rules, to find out what follows what
MAX_ROUNDS = 12


def regular_rules(rules: Rules) -> frozenset[str]:
    """Rules that lead neither to themselves nor to a token. Without recursion of our own: there
    may be thousands in a row."""
    uses = {name: _refs(node) for name, node in rules.items()}
    n_open = {name: len(refs) for name, (refs, has_token) in uses.items() if not has_token}
    users: dict[str, list[str]] = {}
    for name in n_open:
        for ref in uses[name][0]:
            users.setdefault(ref, []).append(name)
    ready = [name for name, n in n_open.items() if n == 0]
    regular = set(ready)
    while ready:
        for user in users.get(ready.pop(), ()):
            n_open[user] -= 1
            if n_open[user] == 0:
                regular.add(user)
                ready.append(user)
    return frozenset(regular)


def _refs(node: Node) -> tuple[set[str], bool]:
    """The rules that a node names, and whether it names a token."""
    found, has_token, todo = set[str](), False, [node]
    while todo:
        node = todo.pop()
        if isinstance(node, Ref):
            found.add(node.name)
        elif isinstance(node, Repeat):
            todo.append(node.item)
        elif isinstance(node, Sequence | Either):
            todo += node.items
        else:
            has_token |= not isinstance(node, Text | Chars)
    return found, has_token


class Words:
    """The words of a grammar's lexer. ``cut``: parts that are none, though they could be."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.regular = regular_rules(rules)
        self.cut: set[Node] = set()
        self.is_all_cut = False
        if "root" not in self.regular:  # else the whole text is one word
            self._cut_until_exact()

    def is_regular(self, node: Node) -> bool:
        """Whether a node can stand in a word. Nodes are as deep as groups are nested."""
        if isinstance(node, Ref):
            return node.name in self.regular
        if isinstance(node, Repeat):
            return self.is_regular(node.item)
        if isinstance(node, Sequence | Either):
            return all(map(self.is_regular, node.items))
        return isinstance(node, Text | Chars)

    def is_word(self, node: Node) -> bool:
        """Whether a node that stands outside of words is one."""
        if isinstance(node, Chars):
            return True
        if isinstance(node, Text):
            return len(node.chars) == 1 or not (self.is_all_cut or node in self.cut)
        return not self.is_all_cut and node not in self.cut and self.is_regular(node)

    def _cut_until_exact(self) -> None:
        for _ in range(MAX_ROUNDS):
            try:
                clashing = _Check(self).clashing()
            except TooLargeError:
                break
            if not clashing:
                return
            self.cut |= clashing
        self.is_all_cut = True


@dataclass(slots=True)
class _Facts:
    """Of a rule outside of words: with which characters it begins and what follows it."""

    first: int = 0
    follow: int = 0
    is_nullable: bool = False


class _Check:
    """Looks for words that would be taken too long. Raises TooLargeError where that is too much."""

    def __init__(self, words: Words) -> None:
        self._words, self._rules = words, words.rules
        self._atoms = Atoms(self._rules.values())
        self._automata: dict[Node, Automaton] = {}
        self._follow: dict[Node, int] = {}
        self._facts = {name: _Facts() for name in self._reached()}
        self._n_left = MAX_STEPS
        while sum(map(self._learn_first, self._facts)):
            pass
        while sum(map(self._learn_follow, self._facts)):
            pass

    def clashing(self) -> set[Node]:
        """Words to be cut."""
        found = set[Node]()
        n_left = MAX_PAIRS
        for one, automaton_ in self._automata.items():
            follow = self._follow[one]
            for other, against in self._automata.items():
                n_left -= 1
                if not automaton_.first_chars & against.first_chars:
                    continue
                clashes, n_pairs = automaton_.clashes(against, follow, n_left)
                n_left -= n_pairs
                if clashes:
                    found.add(one if _can_be_cut(one) else other)
        return found

    # -- rules outside of words

    def _reached(self) -> list[str]:
        """The rules that are used outside of words."""
        found, todo = {"root"}, ["root"]
        while todo:
            for node in self._outside(self._rules[todo.pop()]):
                if isinstance(node, Ref) and node.name not in found:
                    found.add(node.name)
                    todo.append(node.name)
        return sorted(found)

    def _outside(self, node: Node) -> Iterator[Node]:
        """The parts of a node that are outside of words, and rules that are named there."""
        if self._words.is_word(node):
            self._learn_word(node)
            return
        yield node
        if isinstance(node, Repeat):
            yield from self._outside(node.item)
        elif isinstance(node, Sequence | Either):
            for item in node.items:
                yield from self._outside(item)
        elif isinstance(node, Text):
            for char in node.chars:
                self._learn_word(Text(char))

    def _learn_word(self, node: Node) -> None:
        if node not in self._automata:
            self._automata[node] = automaton(node, self._rules, self._atoms, MAX_POSITIONS)
            self._follow[node] = 0

    def _begin(self, node: Node) -> tuple[int, bool]:
        """With which characters a node begins, and whether it may be empty."""
        self._n_left -= 1
        if self._n_left < 0:
            raise TooLargeError
        if node in self._automata:
            made = self._automata[node]
            return made.first_chars, made.is_nullable
        if isinstance(node, Ref):
            facts = self._facts[node.name]
            return facts.first, facts.is_nullable
        if isinstance(node, Repeat):
            first, is_nullable = self._begin(node.item)
            return (0, True) if node.high == 0 else (first, is_nullable or node.low == 0)
        if isinstance(node, Either):
            parts = [self._begin(item) for item in node.items]
            return _union(first for first, _ in parts), any(empty for _, empty in parts)
        if isinstance(node, Text):
            node = Sequence(tuple(Text(char) for char in node.chars))
        first = 0
        for item in node.items if isinstance(node, Sequence) else ():
            own, is_nullable = self._begin(item)
            first |= own
            if not is_nullable:
                return first, False
        return first, isinstance(node, Sequence)

    def _learn_first(self, name: str) -> bool:
        facts = self._facts[name]
        before = facts.first, facts.is_nullable
        facts.first, facts.is_nullable = self._begin(self._rules[name])
        return before != (facts.first, facts.is_nullable)

    def _learn_follow(self, name: str) -> bool:
        return self._spread(self._rules[name], self._facts[name].follow)

    def _spread(self, node: Node, follow: int) -> bool:
        """``node`` may be followed by ``follow``: whether that is news anywhere in it."""
        self._n_left -= 1
        if node in self._automata:
            before = self._follow[node]
            self._follow[node] = before | follow
            return before | follow != before
        if isinstance(node, Ref):
            facts = self._facts[node.name]
            before, facts.follow = facts.follow, facts.follow | follow
            return facts.follow != before
        if isinstance(node, Repeat):
            again = self._begin(node.item)[0] if node.high not in (0, 1) else 0
            return self._spread(node.item, follow | again)
        if isinstance(node, Either):
            return sum(self._spread(item, follow) for item in node.items) > 0
        if isinstance(node, Text):
            node = Sequence(tuple(Text(char) for char in node.chars))
        is_news = False
        for item in reversed(node.items) if isinstance(node, Sequence) else ():
            is_news |= self._spread(item, follow)
            first, is_nullable = self._begin(item)
            follow = first | follow if is_nullable else first
        return is_news


def _can_be_cut(node: Node) -> bool:
    return not isinstance(node, Chars) and not (isinstance(node, Text) and len(node.chars) == 1)


def _union(sets: Iterator[int]) -> int:
    found = 0
    for each in sets:
        found |= each
    return found
