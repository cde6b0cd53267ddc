"""GBNF, llama.cpp's notation for grammars, as a tree. Linear in its length, bounded in depth."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from slotmux.server.grammars.spec import MAX_BYTES, GrammarError

MAX_DEPTH = 64
MAX_RULES = 10_000
MAX_REPEAT = 2_000
MAX_REPEATS = 4  # one upon the other

_NAME = re.compile(r"[A-Za-z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)+")
_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_BOUNDS = re.compile(r"\{[ \t]*(\d{1,9})[ \t]*(,)?[ \t]*(\d{1,9})?[ \t]*\}")
_TOKEN = re.compile(r"(!?)<(?:\[(\d{1,9})\]|([^<>\s\[\]]{1,64}))>")
_HEX = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"n": 10, "r": 13, "t": 9, '"': 34, "[": 91, "]": 93, "\\": 92, "-": 45}


@dataclass(frozen=True, slots=True)
class Text:
    """Exactly these characters."""

    chars: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of these ranges, or one of none of them."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """One token: by id, or by the text of a special one."""

    token_id: int = -1
    name: str = ""
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """Another rule."""

    name: str
    at: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """``low`` to ``high`` times (-1: any number)."""

    item: Node
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; nothing at all if there are none."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several."""

    items: tuple[Node, ...]


Node = Text | Chars | Token | Ref | Repeat | Sequence | Either
Rules = dict[str, Node]


def parse_gbnf(text: str) -> Rules:
    """The rules by name, ``root`` among them. Raises GrammarError with line and column."""
    if len(text.encode()) > MAX_BYTES:
        raise GrammarError(f"a grammar has at most {MAX_BYTES} bytes")
    rules = _Parser(text).rules()
    if "root" not in rules:
        raise GrammarError("the grammar has no rule 'root'")
    return rules


class _Parser:
    """A cursor that only moves forward."""

    def __init__(self, text: str) -> None:
        self.text, self.pos = text, 0
        self.refs: list[Ref] = []

    def rules(self) -> Rules:
        found: Rules = {}
        self._skip(_LINES)
        while self.pos < len(self.text):
            at = self.pos
            name = self._name()
            self._skip(_SPACE)
            if not self.text.startswith("::=", self.pos):
                raise self._error("expected '::='")
            self.pos += 3
            self._skip(_LINES)
            if name in found:
                raise self._error("this rule is defined twice", at)
            found[name] = self._either(0)
            if len(found) > MAX_RULES:
                raise self._error(f"at most {MAX_RULES} rules")
            if self.pos < len(self.text) and self.text[self.pos] not in "\r\n":
                raise self._error("expected the end of the line")
            self._skip(_LINES)
        for ref in self.refs:
            if ref.name not in found:
                raise self._error("there is no such rule", ref.at)
        return found

    def _either(self, depth: int) -> Node:
        items = [self._sequence(depth)]
        while True:
            end = self.pos
            self._skip(_LINES)  # an alternative may stand on a line of its own
            if not self.text.startswith("|", self.pos):
                self.pos = self.pos if depth else end
                return items[0] if len(items) == 1 else Either(tuple(items))
            self.pos += 1
            self._skip(_LINES)
            items.append(self._sequence(depth))

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        while self.pos < len(self.text):
            item = self._item(depth)
            if item is None:
                break
            self._skip(_LINES if depth else _SPACE)
            n_repeats = 0
            while (bounds := self._repetition()) is not None:
                item, n_repeats = Repeat(item, *bounds), n_repeats + 1
                if n_repeats > MAX_REPEATS:
                    raise self._error(f"at most {MAX_REPEATS} repetitions of one thing")
                self._skip(_LINES if depth else _SPACE)
            items.append(item)
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self, depth: int) -> Node | None:
        char = self.text[self.pos]
        if char == '"':
            return self._literal()
        if char == "[":
            return self._chars()
        if char == ".":
            self.pos += 1
            return Chars((), is_negated=True)
        if char == "(":
            return self._group(depth + 1)
        if char in "<!":
            return self._token()
        if _NAME.match(char):
            at = self.pos
            ref = Ref(self._name(), at)
            self.refs.append(ref)
            return ref
        return None

    def _group(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(f"groups are nested at most {MAX_DEPTH} deep")
        self.pos += 1
        self._skip(_LINES)
        inner = self._either(depth)
        if not self.text.startswith(")", self.pos):
            raise self._error("expected ')'")
        self.pos += 1
        return inner

    def _repetition(self) -> tuple[int, int] | None:
        char = self.text[self.pos : self.pos + 1]
        if char in ("*", "+", "?"):
            self.pos += 1
            return {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[char]
        if char != "{":
            return None
        match = _BOUNDS.match(self.text, self.pos)
        if match is None:
            raise self._error("expected {n}, {n,} or {n,m}")
        low = int(match[1])
        high = int(match[3]) if match[3] else -1 if match[2] else low
        if max(low, high) > MAX_REPEAT or -1 < high < low or (match[3] and not match[2]):
            raise self._error(f"a repetition goes from less to more, up to {MAX_REPEAT}")
        self.pos = match.end()
        return low, high

    def _literal(self) -> Node:
        self.pos += 1
        codes: list[str] = []
        while True:
            if self.text.startswith('"', self.pos):
                self.pos += 1
                return Text("".join(codes))
            codes.append(chr(self._char("a literal")))

    def _chars(self) -> Node:
        at = self.pos
        self.pos += 1
        is_negated = self.text.startswith("^", self.pos)
        self.pos += is_negated
        ranges: list[tuple[int, int]] = []
        while not self.text.startswith("]", self.pos):
            low = high = self._char("a set of characters")
            is_range = self.text.startswith("-", self.pos)
            if is_range and not self.text.startswith("-]", self.pos):
                self.pos += 1
                high = self._char("a set of characters")
            if high < low:
                raise self._error("a range of characters goes upwards")
            ranges.append((low, high))
        self.pos += 1
        if not ranges and not is_negated:
            raise self._error("this set of characters is empty", at)
        return Chars(tuple(ranges), is_negated)

    def _char(self, what: str) -> int:
        if self.pos >= len(self.text):
            raise self._error(f"{what} has no end")
        char = self.text[self.pos]
        self.pos += 1
        if char != "\\":
            return ord(char)
        kind = self.text[self.pos : self.pos + 1]
        n = _HEX.get(kind, 0)
        digits = self.text[self.pos + 1 : self.pos + 1 + n]
        self.pos += 1 + n
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if not n or not re.fullmatch(rf"[0-9A-Fa-f]{{{n}}}", digits):
            raise self._error("this is no escape known here", self.pos - 2 - n)
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._error("there is no such character", self.pos - 2 - n)
        return code

    def _token(self) -> Node:
        match = _TOKEN.match(self.text, self.pos)
        if match is None:
            raise self._error("expected a token as <[id]> or <name>")
        if match[1] and match[3]:
            raise self._error("of tokens only an id can be excluded, as !<[id]>")
        self.pos = match.end()
        token_id = int(match[2]) if match[2] else -1
        return Token(token_id, match[3] or "", is_negated=bool(match[1]))

    def _name(self) -> str:
        match = _NAME.match(self.text, self.pos)
        if match is None:
            raise self._error("expected the name of a rule")
        self.pos = match.end()
        return match[0]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.pos)
        if match is not None:
            self.pos = match.end()

    def _error(self, message: str, at: int | None = None) -> GrammarError:
        at = self.pos if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        return GrammarError(f"line {line}, column {column}: {message}")
