"""Strings that hold what users wrote, as a chat template sees them (RELIABILITY class O).

To the template a MarkedText is the text without marks: it compares, splits and searches as if
nothing had been done to it. What reaches the prompt has the marks, one inside whatever is, or
could help to make, a special token's text; text made from it keeps them, and gets one more
wherever something was cut away.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, SupportsIndex

from slotmux.runtime.tokenizer import SpecialGuard

# Templates compare roles, and build special tokens from them ('<|' + role + '|>').
KNOWN_ROLES = frozenset(
    ("assistant", "developer", "function", "ipython", "model", "system", "tool", "user")
)


@dataclass(frozen=True, slots=True)
class Marker:
    """Marks the texts of one request with one noncharacter that none of them holds."""

    guard: SpecialGuard
    mark: str

    def value(self, value: Any) -> Any:
        """A JSON value with every string in it, keys too, marked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._key(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A chat message; the well-known roles stay plain."""
        marked: dict[str, Any] = self.value(message)
        if message.get("role") in KNOWN_ROLES:
            marked["role"] = message["role"]
        return marked

    def text(self, text: str) -> MarkedText:
        """What a user wrote."""
        return MarkedText(self.guard.mark(text, self.mark), self)

    def made_of(self, made: Any, *parts: Any) -> Any:
        """``made``, as a MarkedText if it is a plain string made from one."""
        if type(made) is not str:
            return made
        if self.mark in made or any(isinstance(part, MarkedText) for part in parts):
            return MarkedText(made, self)
        return made

    def _key(self, key: str) -> str:
        # Most keys are those of the API: no need to weigh them down.
        return key if self.guard.mark(key, self.mark) == key else self.text(key)


def raw(value: Any) -> Any:
    """A text without marks; anything else as it is."""
    return value.raw() if isinstance(value, MarkedText) else value


class MarkedText(str):
    """A string with marks. Its value as a ``str`` has them; its methods do not see them."""

    __slots__ = ("_marker",)
    _marker: Marker

    def __new__(cls, marked: str, marker: Marker) -> MarkedText:
        made = super().__new__(cls, marked)
        made._marker = marker
        return made

    def raw(self) -> str:
        """The text without marks."""
        return str.replace(self, self._marker.mark, "")

    def __str__(self) -> str:
        return self

    def __repr__(self) -> str:
        return self._marker.text(repr(self.raw()))

    def __eq__(self, other: object) -> bool:
        return bool(self.raw() == raw(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.raw())

    def __lt__(self, other: str) -> bool:
        return bool(self.raw() < raw(other))

    def __le__(self, other: str) -> bool:
        return bool(self.raw() <= raw(other))

    def __gt__(self, other: str) -> bool:
        return bool(self.raw() > raw(other))

    def __ge__(self, other: str) -> bool:
        return bool(self.raw() >= raw(other))

    def __int__(self) -> int:
        return int(self.raw())

    def __float__(self) -> float:
        return float(self.raw())

    def __len__(self) -> int:
        return str.__len__(self) - str.count(self, self._marker.mark)

    def __contains__(self, part: object) -> bool:
        return raw(part) in self.raw()

    def __iter__(self) -> Iterator[str]:
        cut = self._cutter()
        return (cut(i, i + 1) for i in range(len(self)))

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        cut = self._cutter()
        places = range(len(self))[index]  # raises IndexError as a string does
        if isinstance(places, int):
            return cut(places, places + 1)
        if places.step == 1:
            return cut(places.start, max(places.stop, places.start))
        return MarkedText("".join([cut(i, i + 1) for i in places]), self._marker)

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        """As for a string, but ``old`` may not be empty."""
        if not old:
            raise ValueError("nothing to replace")
        return MarkedText(str.join(new, self.split(old, count)), self._marker)

    def _cutter(self) -> Callable[[int, int], MarkedText]:
        """A function that cuts out what stands between two places of the text without marks."""
        marker, size, places = self._marker, len(self), self._places()

        def cut(start: int, stop: int) -> MarkedText:
            if start >= stop:
                return MarkedText("", marker)
            begin = start + bisect_right(places, start) if start > 0 else 0
            end = stop + bisect_right(places, stop - 1) if stop < size else str.__len__(self)
            before = marker.mark if start > 0 else ""
            after = marker.mark if stop < size else ""
            return MarkedText(before + str.__getitem__(self, slice(begin, end)) + after, marker)

        return cut

    def _places(self) -> list[int]:
        """Where the marks are in the text without them."""
        places: list[int] = []
        at = str.find(self, self._marker.mark)
        while at >= 0:
            places.append(at - len(places))
            at = str.find(self, self._marker.mark, at + 1)
        return places

    def _in_other_case(self, changed: str) -> MarkedText:
        """``changed``, the raw text in another case, with the marks of this one: they do not
        depend on the case."""
        if len(changed) != len(self):
            return self._marker.text(changed)
        bounds = [0, *self._places(), len(changed)]
        pieces = [changed[i:j] for i, j in pairwise(bounds)]
        return MarkedText(self._marker.mark.join(pieces), self._marker)

    def _pieces(self, parts: list[str] | tuple[str, ...], gap: int | None) -> list[str]:
        """``parts`` of the raw text, in order, cut out of this one. Between two of them stand
        ``gap`` characters, or (None) only such that the second part cannot begin with."""
        plain, cut = self.raw(), self._cutter()
        pieces: list[str] = []
        at = 0
        for part in parts:
            if gap is None and part:
                at = plain.index(part, at)
            pieces.append(cut(at, at + len(part)))
            at += len(part) + (gap or 0)
        return pieces


def _inspecting(name: str) -> Callable[..., Any]:
    original = getattr(str, name)

    def method(self: MarkedText, *args: Any) -> Any:
        return original(self.raw(), *_raws(args))

    return method


def _raws(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_raws(value) if isinstance(value, tuple) else raw(value) for value in values)


def _trimming(name: str) -> Callable[..., str]:
    original = getattr(str, name)

    def method(self: MarkedText, *args: Any) -> str:
        plain = self.raw()
        kept = original(plain, *_raws(args))
        if kept == plain:
            return self
        from_left = name in ("lstrip", "removeprefix")
        start = len(plain) - len(kept) if from_left else 0
        if name == "strip":
            start = len(plain) - len(plain.lstrip(*_raws(args)))
        return self._cutter()(start, start + len(kept))

    return method


def _splitting(name: str) -> Callable[..., Any]:
    original = getattr(str, name)

    def method(self: MarkedText, *args: Any, **kwargs: Any) -> Any:
        plain = {key: raw(value) for key, value in kwargs.items()}
        parts = original(self.raw(), *_raws(args), **plain)
        separator = plain.get("sep", raw(args[0]) if args else None)
        if "partition" in name:
            return tuple(self._pieces(parts, 0))
        return self._pieces(parts, len(separator) if isinstance(separator, str) else None)

    return method


def _casing(name: str) -> Callable[..., str]:
    original = getattr(str, name)

    def method(self: MarkedText) -> str:
        return self._in_other_case(original(self.raw()))

    return method


_METHODS: dict[Callable[[str], Callable[..., Any]], str] = {
    _inspecting: "count endswith find index isalnum isalpha isascii isdecimal isdigit "
    "isidentifier islower isnumeric isprintable isspace istitle isupper rfind rindex startswith",
    _trimming: "strip lstrip rstrip removeprefix removesuffix",
    _splitting: "split rsplit splitlines partition rpartition",
    _casing: "capitalize casefold lower swapcase title upper",
}
for _make, _names in _METHODS.items():
    for _name in _names.split():
        setattr(MarkedText, _name, _make(_name))
