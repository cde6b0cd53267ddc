"""A recogniser of GBNF, written from what the notation says: where each part of a text may end."""

from __future__ import annotations

from slotmux.server.grammars.gbnf import Chars, Either, Node, Ref, Repeat, Rules, Sequence, Text


def recognises(rules: Rules, text: str) -> bool:
    """Whether ``text`` is one of the grammar's. Rules grow until nothing is new: left recursion
    is like any other."""
    ends: dict[tuple[str, int], frozenset[int]] = {
        (name, i): frozenset() for name in rules for i in range(len(text) + 1)
    }
    while True:
        found = {(name, i): _ends(rules[name], text, i, ends) for name, i in ends}
        if found == ends:
            return len(text) in ends["root", 0]
        ends = found


def _ends(
    node: Node, text: str, i: int, known: dict[tuple[str, int], frozenset[int]]
) -> frozenset[int]:
    if isinstance(node, Ref):
        return known[node.name, i]
    if isinstance(node, Text):
        return frozenset({i + len(node.chars)} if text.startswith(node.chars, i) else ())
    if isinstance(node, Chars):
        if i == len(text):
            return frozenset()
        is_in = any(low <= ord(text[i]) <= high for low, high in node.ranges)
        return frozenset({i + 1} if is_in != node.is_negated else ())
    if isinstance(node, Either):
        return frozenset().union(*(_ends(item, text, i, known) for item in node.items))
    if isinstance(node, Sequence):
        here = frozenset({i})
        for item in node.items:
            here = frozenset().union(*(_ends(item, text, at, known) for at in here))
        return here
    assert isinstance(node, Repeat)
    here, found, n = frozenset({i}), frozenset({i} if node.low == 0 else ()), 0
    while here and (n < node.high or node.high < 0) and n <= node.low + len(text):
        here = frozenset().union(*(_ends(node.item, text, at, known) for at in here))
        n += 1
        if n >= node.low:
            if here <= found:
                break  # once more gives nothing new
            found |= here
    return found
