"""Values of the numbers of SamplingParams, from what is told of them: a new one needs no list."""

from __future__ import annotations

from typing import Any

from slotmux.runtime.sampling.params import NUMBERS, SamplingParams


def inside(name: str) -> Any:
    """A value that may be asked for, other than the default."""
    kind, told = NUMBERS[name]
    value = min(told.low + 3, told.high) if kind is int else (told.low + told.high) / 2
    return kind(told.high if value == getattr(SamplingParams(), name) else value)


def outside(name: str) -> list[Any]:
    """Values that are refused: too small, too large, of the wrong type."""
    kind, told = NUMBERS[name]
    return [
        told.low if told.is_low_out else told.low - 0.5,
        told.high + 1,
        "much",
        True,
        told.low - 1,
        *([1.5] if kind is int else []),
    ]


def extremes(name: str) -> list[Any]:
    """The ends of the range, and a value between."""
    kind, told = NUMBERS[name]
    return [inside(name), kind(told.high), *([] if told.is_low_out else [kind(told.low)])]
