"""What llguidance says of a wrong grammar, in words of our own that hold nothing of a client's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slotmux.server.grammars.json_schema import UNSUPPORTED
from slotmux.server.grammars.spec import Kind

_PLACE = re.compile(r"at (\d+)\((\d+)\)")
_REGEX = re.compile(r"^error: ([a-z][a-z0-9 ,.()-]*)$", re.MULTILINE)
_KEYS = re.compile(r'Unimplemented keys: \[(["\w$, -]*)\]')
_REASONS = (
    ("nsatisfiable", "nothing satisfies it"),
    ("NoExtension", "nothing satisfies it"),
    ("oneOf constraints", "'oneOf' is only supported where its schemas exclude each other"),
    ("Unknown format", "this format is not supported"),
    ("Pointer", "a '$ref' leads nowhere"),
    ("Resource", "a '$ref' or '$schema' leads nowhere"),
    ("lookarounds", "look-around is not supported"),
    ("recursion limit", "it is nested too deeply"),
    ("too large", "it is too large"),
    ("too complex", "it is too large"),
    ("fuel", "it is too large"),
    ("limit", "it is too large"),
    ("unknown name", "there is no such rule"),
    ("pecial token", "there is no such special token"),
    ("recursive", "a terminal refers to itself"),
    ("circular", "a terminal refers to itself"),
)


def reason(message: str, kind: Kind) -> str:
    """A short text; of Lark, which is handed on as it came, with the place in it."""
    found = _REGEX.search(message)
    keys = _KEYS.search(message)
    if found is not None:
        text = f"bad regular expression: {found[1]}"
    elif keys is not None:
        known = [key for key in re.findall(r"[\w$-]+", keys[1]) if key in UNSUPPORTED]
        text = "keywords that are not supported" + (f": {', '.join(known)}" if known else "")
    else:
        text = next((ours for theirs, ours in _REASONS if theirs in message), "")
    text = text or "it cannot be understood"
    place = _PLACE.search(message) if kind == "lark" else None
    return f"line {place[1]}, column {place[2]}: {text}" if place is not None else text


def unenforced(warnings: Sequence[str]) -> tuple[str, ...]:
    """The keywords that llguidance passes over, by what it says: names of ours, each once."""
    found = set[str]()
    for message in warnings:
        keys = _KEYS.search(message)
        if keys is not None:
            found.update(key for key in re.findall(r"[\w$-]+", keys[1]) if key in UNSUPPORTED)
        found.update(word for word in ("format", "oneOf") if word in message)
    return tuple(sorted(found))
