"""What a client may ask an answer to look like, and how a wrong wish is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["json_object", "json_schema", "regex", "choice", "gbnf", "lark"]
MAX_BYTES = 256 * 1024  # of a specification
_PLAIN = re.compile(r"[A-Za-z0-9_$-]{1,64}")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class GrammarSpec:
    """One wish. ``text``: the schema as JSON, the regex, a JSON array of strings, GBNF, or
    llguidance's dialect of Lark; nothing for json_object. ``param`` names it in errors."""

    kind: Kind
    text: str = ""
    param: str = "grammar"


class GrammarError(Exception):
    """A specification that cannot be followed. ``path``: where in it the fault lies;
    ``is_final``: it would be no better another time."""

    def __init__(self, message: str, path: Path = (), *, is_final: bool = True) -> None:
        super().__init__(message)
        self.path = path
        self.is_final = is_final

    def param(self, base: str) -> str:
        """The path below ``base``; a name that is not plain is shown as '?'."""
        return base + "".join(map(_shown, self.path))


def _shown(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _PLAIN.fullmatch(part) else ".?"


def pointer(path: Sequence[str | int]) -> str:
    """The path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
