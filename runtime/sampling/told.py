"""What is told of a number beside its default, once, where it is a field: the schemas of requests,
the flags, the keys of a file and a slot's words are made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

INT32_MAX = 2**31 - 1
Origin = Literal["OpenAI", "vLLM", "llama-server"]


@dataclass(frozen=True, slots=True)
class Flag:
    """What the help says of a setting; ``short`` are further names of its flag."""

    help: str
    short: tuple[str, ...] = ()
    metavar: str | None = None  # where the type's own says the wrong thing


@dataclass(frozen=True, slots=True)
class Told:
    """Of a number that a request may give: ``low`` to ``high`` is what a client or an operator may
    say, ``drawn`` what a draw can do with, where that is more."""

    low: float
    high: float
    flag: Flag | None = None  # None: the operator has no say
    drawn: tuple[float, float] | None = None
    is_low_out: bool = False  # low itself is out of range
    neutral: tuple[float, ...] = ()  # values that ask for nothing
    origin: Origin = "llama-server"  # whose parameter it is
    note: str = ""  # in the table of parameters
    aliases: tuple[tuple[str, Origin], ...] = ()  # further names in a request
    setting: str = ""  # how the operator calls it; "" = by its own name
    key: str = ""  # in the file, below general.sampling; "" = none


class Number(NamedTuple):
    """A field that is a number, and what is told of it."""

    kind: type[int] | type[float]
    told: Told

    @property
    def can_draw(self) -> tuple[float, float]:
        """The least and the largest value that a draw can do with; a count has no largest."""
        low, high = self.told.low, self.told.high
        return self.told.drawn or (low, math.inf if high == INT32_MAX else high)


def numbers_of(params: type[Any]) -> dict[str, Number]:
    """The fields of ``params`` that are annotated with Told, in order."""
    found: dict[str, Number] = {}
    for name, hint in get_type_hints(params, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, told = get_args(hint)
            assert kind in (int, float), name
            assert isinstance(told, Told), name
            found[name] = Number(kind, told)
    return found
