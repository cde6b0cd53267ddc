"""String arrays (vocabularies, merges): their extent is checked at once, text decoded on demand."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

import numpy as np

from slotmux.runtime.gguf.cursor import Cursor
from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import MAX_STRING_BYTES

_LENGTH = struct.Struct("<Q")
_MARKS = (*range(1, 9), *range(14, 32), 127)  # characters that texts hardly have


@dataclass(frozen=True, slots=True)
class StringArray:
    """``n_items`` length-prefixed strings in ``raw``, whose lengths are known to be sound."""

    field: str
    raw: memoryview
    offset: int  # of raw in the file
    n_items: int
    ends: array[int]  # of the strings in raw, 64 bits each

    def decode(self) -> list[str]:
        """All strings. Raises ModelFileError at the first that is not UTF-8."""
        items = self._decode_at_once()
        return self._decode_one_by_one() if items is None else items

    def _decode_at_once(self) -> list[str] | None:
        """The strings, split at an ASCII character that none of them has, which stands where the
        last byte of a length was. None if there is no such character, or they are not UTF-8."""
        if not self.n_items:
            return []
        ends = np.frombuffer(self.ends, np.uint64).astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]]) + _LENGTH.size
        kept = np.ones(len(self.raw), bool)
        kept[(starts[:, None] - np.arange(_LENGTH.size, 1, -1)).reshape(-1)] = False
        joined = np.frombuffer(self.raw, np.uint8)[kept]
        marks = starts - 1 - (_LENGTH.size - 1) * np.arange(1, self.n_items + 1)
        for mark in _MARKS:
            joined[marks] = mark
            data = joined.tobytes()
            if data.count(mark) == self.n_items:
                break
        else:
            return None
        try:
            return data.decode().split(chr(mark))[1:]
        except UnicodeDecodeError:
            return None

    def _decode_one_by_one(self) -> list[str]:
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
    ends = array("Q")
    add = ends.append
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
        add(pos - begin)
    cursor.pos = pos
    return StringArray(field, buffer[begin:pos], begin, n_items, ends)
