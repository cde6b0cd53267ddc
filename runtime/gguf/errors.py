"""The one exception that a bad model file raises."""

from __future__ import annotations

from pathlib import Path

from slotmux.runtime.errors import SlotmuxError

_MAX_FIELD_CHARS = 120


class ModelFileError(SlotmuxError, ValueError):
    """A model file was refused: ``field`` is what was being read, ``offset`` the byte it was
    read from (None where no byte is to blame, as for a missing key), ``reason`` says why."""

    def __init__(
        self, field: str, offset: int | None, reason: str, path: Path | None = None
    ) -> None:
        # A hostile file chooses its own key names: keep control characters out of logs.
        self.field = ascii_safe(field)
        self.offset = offset
        self.reason = reason
        self.path = path
        super().__init__(self.field, offset, reason)

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        file = "" if self.path is None else f"{ascii_safe(self.path.name)}: "
        return f"{file}{self.field}{where}: {self.reason}"


def ascii_safe(text: str, limit: int = _MAX_FIELD_CHARS) -> str:
    """``text`` as one short printable line, for messages that quote a file's own words."""
    short = text if len(text) <= limit else text[:limit] + "..."
    return ascii(short)[1:-1]
