"""A GBNF tree as llguidance's Lark.

What does not recur becomes terminals, so that the lexer decides inside it exactly and fast; a whole
grammar without recursion is one regular expression.
"""

from __future__ import annotations

from slotmux.server.grammars.gbnf import (
    Chars,
    Either,
    Node,
    Ref,
    Repeat,
    Rules,
    Sequence,
    Text,
    Token,
    parse_gbnf,
)


def gbnf_to_lark(text: str) -> str:
    """Raises GrammarError."""
    return _Writer(parse_gbnf(text)).lark()


_PARTS = (Repeat, Sequence, Either)


class _Writer:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._regular = _regular_rules(rules)
        self._numbers = {name: i for i, name in enumerate(rules)}
        self._lines: list[str] = []
        self._n_hoisted = 0

    def lark(self) -> str:
        self._lines = ["%llguidance {}", f"start: {self._named('root')}"]
        for name, node in self._rules.items():
            body = self._write(node, is_terminal=name in self._regular)
            self._lines.append(f"{self._named(name)}: {body}")
        return "\n".join(self._lines) + "\n"

    def _named(self, name: str) -> str:
        number = self._numbers[name]
        return f"R{number}" if name in self._regular else f"r{number}"

    def _is_regular(self, node: Node) -> bool:
        """Whether a node can stand in a terminal. Nodes are as deep as groups are nested."""
        if isinstance(node, Ref):
            return node.name in self._regular
        if isinstance(node, Repeat):
            return self._is_regular(node.item)
        if isinstance(node, Sequence | Either):
            return all(map(self._is_regular, node.items))
        return not isinstance(node, Token)

    def _write(self, node: Node, *, is_terminal: bool) -> str:
        if not is_terminal and isinstance(node, _PARTS) and self._is_regular(node):
            return self._hoist(node)
        if isinstance(node, Ref):
            return self._named(node.name)
        if isinstance(node, Token):
            return _token(node)
        if isinstance(node, Text):
            return _text(node.chars)
        if isinstance(node, Chars):
            return _chars(node)
        if isinstance(node, Repeat):
            return f"({self._write(node.item, is_terminal=is_terminal)}){_bounds(node)}"
        parts = [self._write(item, is_terminal=is_terminal) for item in node.items]
        if isinstance(node, Sequence):
            return " ".join(parts) if parts else '""'
        return "(" + " | ".join(parts) + ")"

    def _hoist(self, node: Node) -> str:
        """A terminal of its own for a part without recursion: the lexer, which takes the longest
        of what fits, then decides about all of it together."""
        name = f"T{self._n_hoisted}"
        self._n_hoisted += 1
        self._lines.append(f"{name}: {self._write(node, is_terminal=True)}")
        return name


def _regular_rules(rules: Rules) -> frozenset[str]:
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
            has_token |= isinstance(node, Token)
    return found, has_token


def _bounds(node: Repeat) -> str:
    simple = {(0, -1): "*", (1, -1): "+", (0, 1): "?"}
    high = "" if node.high < 0 else node.high
    return simple.get((node.low, node.high), f"{{{node.low},{high}}}")


def _token(node: Token) -> str:
    if node.name:
        return f"<{node.name}>"
    return f"<[{'^' if node.is_negated else ''}{node.token_id}]>"


def _text(chars: str) -> str:
    return "/" + "".join(map(_char, map(ord, chars))) + "/" if chars else '""'


def _chars(node: Chars) -> str:
    if not node.ranges:
        return r"/(?s:.)/"
    parts = [_char(a) if a == b else f"{_char(a)}-{_char(b)}" for a, b in node.ranges]
    return f"/[{'^' if node.is_negated else ''}{''.join(parts)}]/"


def _char(code: int) -> str:
    """A character as regular expressions write it, outside of sets and in them."""
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:X}}}"
