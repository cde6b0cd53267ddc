"""Text that is still coming, for parsers written as generators: a bare ``yield`` waits for more.

Linear: what is read is never looked at again, and no text is searched twice for the same thing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

_T = TypeVar("_T")
Steps = Generator[None, None, _T]
Emit = Callable[[str], None]

SPACES = frozenset(" \t\r\n")
MAX_NAME = 256  # characters of a name, an id, a number: nothing that is buffered grows beyond it
_COMPACT_AT = 1 << 14


class MalformedError(Exception):
    """What is on the tape is not what the format says."""


class Tape:
    """Text up to now. ``is_closed``: none will follow."""

    __slots__ = ("_keep", "_kept", "is_closed", "pos", "text")

    def __init__(self) -> None:
        self.text = ""
        self.pos = 0
        self.is_closed = False
        self._keep = -1  # from where on read text is kept, to be given back; -1: it is not
        self._kept: list[str] = []  # what was kept before the beginning of ``text``

    def push(self, text: str) -> None:
        """More text."""
        if self.pos > _COMPACT_AT:
            if self._keep >= 0:
                self._kept.append(self.text[self._keep : self.pos])
                self._keep = 0
            self.text = self.text[self.pos :]
            self.pos = 0
        self.text += text

    def keep(self) -> None:
        """What is read from here on can be taken back."""
        self._keep, self._kept = self.pos, []

    def take_back(self) -> str:
        """What was read since ``keep``; it stays read."""
        text = "".join(self._kept) + self.text[self._keep : self.pos]
        self._keep, self._kept = -1, []
        return text

    @property
    def rest(self) -> str:
        """What there is and is not read."""
        return self.text[self.pos :]

    def peek(self) -> Steps[str]:
        """The next character, '' at the end."""
        while self.pos >= len(self.text):
            if self.is_closed:
                return ""
            yield
        return self.text[self.pos]

    def spaces(self) -> Steps[None]:
        """Skip white space."""
        while (yield from self.peek()) in SPACES:
            self.pos += 1

    def take(self, n_chars: int) -> Steps[str]:
        """Read that many characters. Raises MalformedError if the end comes first."""
        while len(self.text) - self.pos < n_chars:
            if self.is_closed:
                raise MalformedError
            yield
        self.pos += n_chars
        return self.text[self.pos - n_chars : self.pos]

    def run(self, pattern: re.Pattern[str]) -> Steps[str]:
        """Read all characters in a row that ``pattern``, one or more of a class, matches; at most
        MAX_NAME. Raises MalformedError for more."""
        read = ""
        while (yield from self.peek()) and (found := pattern.match(self.text, self.pos)):
            self.pos = found.end()
            read += found.group()
            if len(read) > MAX_NAME:
                raise MalformedError
        return read

    def follows(self, literal: str) -> Steps[bool]:
        """Whether ``literal`` comes next; reads nothing, waits only while it may."""
        while True:
            have = self.text[self.pos : self.pos + len(literal)]
            if len(have) == len(literal) or not literal.startswith(have) or self.is_closed:
                return have == literal
            yield

    def accept(self, literal: str) -> Steps[bool]:
        """Read ``literal`` if it comes next."""
        if (yield from self.follows(literal)):
            self.pos += len(literal)
            return True
        return False

    def expect(self, literal: str) -> Steps[None]:
        """Read ``literal``. Raises MalformedError."""
        if not (yield from self.accept(literal)):
            raise MalformedError

    def one_of(self, literals: tuple[str, ...]) -> Steps[str]:
        """Read the first of ``literals`` that comes next; '' if none does."""
        for literal in literals:
            if (yield from self.accept(literal)):
                return literal
        return ""

    def until(self, stops: tuple[str, ...], emit: Emit) -> Steps[str]:
        """Emit text up to the earliest of ``stops``, which is read and returned; '' at the end."""
        while True:
            found = _earliest(self.text, self.pos, stops)
            safe = len(self.text) if self.is_closed else _undecided(self.text, self.pos, stops)
            if found is not None and found[0] + len(found[1]) <= safe:
                begin, stop = found
                if begin > self.pos:
                    emit(self.text[self.pos : begin])
                self.pos = begin + len(stop)
                return stop
            safe = safe if found is None else min(safe, found[0])
            if safe > self.pos:
                emit(self.text[self.pos : safe])
                self.pos = safe
            if self.is_closed:
                return ""
            yield

    def pour(self, emit: Emit) -> Steps[None]:
        """Emit all text to the end."""
        while True:
            if self.pos < len(self.text):
                emit(self.text[self.pos :])
                self.pos = len(self.text)
            if self.is_closed:
                return
            yield

    def short_until(self, stops: tuple[str, ...]) -> Steps[tuple[str, str]]:
        """A text of at most MAX_NAME characters and the stop behind it. Raises MalformedError."""
        pieces: list[str] = []
        n_chars = 0

        def emit(piece: str) -> None:
            nonlocal n_chars
            n_chars += len(piece)
            if n_chars > MAX_NAME:
                raise MalformedError
            pieces.append(piece)

        stop = yield from self.until(stops, emit)
        if not stop:
            raise MalformedError
        return "".join(pieces), stop


def _earliest(text: str, pos: int, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """The stop that begins first; of those at one place the longest."""
    best: tuple[int, int, str] | None = None
    for stop in stops:
        begin = text.find(stop, pos)
        if begin >= 0 and (best is None or (begin, -len(stop)) < best[:2]):
            best = (begin, -len(stop), stop)
    return None if best is None else (best[0], best[2])


def _undecided(text: str, pos: int, stops: tuple[str, ...]) -> int:
    """Where the longest end of ``text`` begins with which a stop may be starting."""
    longest = max(map(len, stops))
    for begin in range(max(pos, len(text) - longest + 1), len(text)):
        rest = text[begin:]
        if any(len(stop) > len(rest) and stop.startswith(rest) for stop in stops):
            return begin
    return len(text)
