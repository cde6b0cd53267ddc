"""How long a model stays loaded, as Ollama writes it: "5m", "1h30m", 300, 0, -1."""

from __future__ import annotations

import math
import re

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
MAX_CHARS = 64


def seconds_of(value: str | int | float) -> float:
    """Seconds of a duration: a number of them, or numbers with units (h, m, s, ms, us, ns) in a
    row. What is negative means forever: math.inf. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("should be a duration")
    if isinstance(value, int | float):
        if math.isnan(value):
            raise ValueError("should be a duration")
        return math.inf if value < 0 else float(value)
    text = value.strip()
    is_negative = text.startswith("-")
    digits = text[1:] if text[:1] in ("-", "+") else text
    seconds = _unsigned(digits) if len(text) <= MAX_CHARS else None
    if seconds is None:
        raise ValueError('should be a number of seconds, or a duration such as "5m", "1h30m"')
    return math.inf if is_negative and seconds else seconds


def _unsigned(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    seconds, end = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != end:
            return None
        seconds += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    return seconds if end == len(text) and end else None
