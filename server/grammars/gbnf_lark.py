"""A GBNF tree as llguidance's Lark.

What does not recur becomes words of the lexer, as far as that is exact (gbnf_lexer.py); a whole
grammar without recursion is one regular expression.
"""

from __future__ import annotations

from slotmux.server.grammars.gbnf import (
    Chars,
    Node,
    Ref,
    Repeat,
    Rules,
    Sequence,
    Text,
    Token,
    parse_gbnf,
)
from slotmux.server.grammars.gbnf_lexer import Words


def gbnf_to_lark(text: str) -> str:
    """Raises GrammarError."""
    return _Writer(parse_gbnf(text)).lark()


class _Writer:
    def __init__(self, rules: Rules) -> None:
        self._rules, self._words = rules, Words(rules)
        self._numbers = {name: i for i, name in enumerate(rules)}
        self._lines: list[str] = []
        self._named: dict[str, str] = {}  # names of words, by what they are
        self._used: list[str] = []  # rules that are written, as words (R) or not (r)
        self._known: set[str] = set()

    def lark(self) -> str:
        self._lines = ["%llguidance {}", f"start: {self._write(Ref('root', 0))}"]
        names = list(self._rules)
        for used in self._used:  # grows on the way
            body = self._rules[names[int(used[1:])]]
            self._lines.append(f"{used}: {self._body(body, is_word=used[0] == 'R')}")
        return "\n".join(self._lines) + "\n"

    def _rule(self, name: str, *, is_word: bool) -> str:
        used = f"{'R' if is_word else 'r'}{self._numbers[name]}"
        if used not in self._known:
            self._known.add(used)
            self._used.append(used)
        return used

    def _write(self, node: Node) -> str:
        """A node outside of words."""
        if not self._words.is_word(node):
            return self._body(node, is_word=False)
        body = self._body(node, is_word=True)
        if isinstance(node, Ref) or body == '""':
            return body
        if body not in self._named:
            self._named[body] = f"T{len(self._named)}"
            self._lines.append(f"{self._named[body]}: {body}")
        return self._named[body]

    def _body(self, node: Node, *, is_word: bool) -> str:
        """What a node is made of, within a word or outside of words."""
        if isinstance(node, Ref):
            return self._rule(node.name, is_word=is_word and node.name in self._words.regular)
        if isinstance(node, Token):
            return _token(node)
        if isinstance(node, Chars):
            return _chars(node)
        if isinstance(node, Text):
            if is_word or len(node.chars) < 2:
                return _text(node.chars)
            return " ".join(self._write(Text(char)) for char in node.chars)
        write = self._within if is_word else self._write
        if isinstance(node, Repeat):
            return f"({write(node.item)}){_bounds(node)}"
        parts = [write(item) for item in node.items]
        if isinstance(node, Sequence):
            return " ".join(parts) if parts else '""'
        return "(" + " | ".join(parts) + ")"

    def _within(self, node: Node) -> str:
        return self._body(node, is_word=True)


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
