"""String arrays (vocabularies, merges): their extent is checked at once, text decoded on demand."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from slotmux.runtime.gguf.cursor import Cursor
from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import MAX_STRING_BYTES

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class StringArray:
    """``n_items`` length-prefixed strings in ``raw``, whose lengths are known to be sound."""

    field: str
    raw: memoryview
    offset: int  # of raw in the file
    n_items: int

    def decode(self) -> list[str]:
        """All strings. Raises ModelFileError at the first that is not UTF-8."""
        data = bytes(self.raw)
        unpack = _LENGTH.unpack_from
        items: list[str] = []
        append = items.append
        pos = start = 0
        try:
            for _ in range(self.n_items):
                start = pos + 8
                pos = start + unpack(data, pos)[0]
                append(data[start:pos].decode())
        except UnicodeDecodeError as error:
            raise ModelFileError(
                self.field,
                self.offset + start + error.start,
                f"string {len(items)} is not valid UTF-8",
            ) from None
        return items


def read_string_array(cursor: Cursor, field: str, n_items: int) -> StringArray:
    """Step over ``n_items`` strings, checking each length. About 0.1 us a string."""
    buffer, begin, end = cursor.buffer, cursor.pos, cursor.size
    unpack = _LENGTH.unpack_from
    last = end - 8
    pos = begin
    for index in range(n_items):
        if pos > last:
            raise ModelFileError(field, pos, f"the file ends in string {index} of {n_items}")
        n_bytes = unpack(buffer, pos)[0]
        start = pos + 8
        pos = start + n_bytes
        if n_bytes > MAX_STRING_BYTES or pos > end:
            raise ModelFileError(
                field,
                start - 8,
                f"string {index} claims {n_bytes} bytes; {end - start} are left"
                f" and {MAX_STRING_BYTES} the limit",
            )
    cursor.pos = pos
    return StringArray(field, buffer[begin:pos], begin, n_items)
