"""Bounds-checked little-endian reads from a mapped file."""

from __future__ import annotations

import struct

from slotmux.runtime.gguf.errors import ModelFileError

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """A position in ``buffer``. Every read checks that its bytes exist and raises
    ModelFileError naming ``field`` if they do not; nothing is read past the end."""

    __slots__ = ("buffer", "pos", "size")

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.pos = 0

    @property
    def n_left(self) -> int:
        return self.size - self.pos

    def take(self, n_bytes: int, field: str) -> int:
        """Step over ``n_bytes`` and return where they start."""
        start = self.pos
        if n_bytes > self.size - start:
            raise ModelFileError(
                field, start, f"the file ends: {n_bytes} bytes wanted, {self.size - start} left"
            )
        self.pos = start + n_bytes
        return start

    def u32(self, field: str) -> int:
        value: int = _U32.unpack_from(self.buffer, self.take(4, field))[0]
        return value

    def u64(self, field: str) -> int:
        value: int = _U64.unpack_from(self.buffer, self.take(8, field))[0]
        return value

    def count(self, field: str, cap: int, min_bytes: int) -> int:
        """A u64 count of things that take at least ``min_bytes`` each and follow directly."""
        start = self.pos
        value = self.u64(field)
        if value > cap:
            raise ModelFileError(field, start, f"{value} is above the limit of {cap}")
        if value * min_bytes > self.n_left:
            raise ModelFileError(
                field, start, f"{value} do not fit in the {self.n_left} bytes that are left"
            )
        return value

    def string(self, field: str, cap: int) -> str:
        """A length-prefixed UTF-8 string of at most ``cap`` bytes."""
        n_bytes = self.count(f"{field} length", cap, 1)
        start = self.take(n_bytes, field)
        try:
            return str(self.buffer[start : start + n_bytes], "utf-8")
        except UnicodeDecodeError as error:
            raise ModelFileError(field, start + error.start, "not valid UTF-8") from None
