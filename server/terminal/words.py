"""Sizes, times and tables as terminals show them."""

from __future__ import annotations

from collections.abc import Sequence

_SPANS = ((86_400 * 365, "year"), (86_400 * 30, "month"), (86_400 * 7, "week"), (86_400, "day"),
          (3600, "hour"), (60, "minute"))  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"


def size(n_bytes: float) -> str:
    """Bytes in decimal units, as Ollama tells them: 98 MB, 4.7 GB."""
    for unit, word in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if n_bytes >= unit:
            value = n_bytes / unit
            return f"{value:.1f} {word}" if value < 10 else f"{value:.0f} {word}"
    return f"{n_bytes:.0f} B"


def ago(seconds: float) -> str:
    """How long something is past, in its largest unit."""
    return f"{span(seconds)} ago" if seconds >= 60 else "just now"


def span(seconds: float) -> str:
    """A time in its largest unit: 3 days, 1 minute."""
    for unit, word in _SPANS:
        n = int(seconds // unit)
        if n >= 1:
            return f"{n} {word}{'s' if n > 1 else ''}"
    return f"{max(seconds, 0):.0f} seconds"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as a line of bars; the highest fills its cell."""
    shown = list(values)[-width:]
    top = max(shown, default=0.0)
    if top <= 0:
        return (_BARS[0] * len(shown)).rjust(width)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(value / top * steps)] for value in shown).rjust(width)


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table whose names are never cut: programs read it, too."""
    lines = [headings, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("   ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(padded)


def printable(text: str) -> str:
    """``text`` without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
