"""How memory of sequences is laid out in a file: for the disk tier and for saved slots.

magic | length and CRC-32 of the header | header (JSON) | sections

The header tells each section's name, length and CRC-32. A file is written once and never changed;
it carries no version but its magic: what is laid out otherwise has another.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.interfaces import Bytes

MAGIC = b"slotmux memory 1"
_HEAD = struct.Struct("<16sII")
HEAD_BYTES = _HEAD.size
_MAX_HEADER = 1 << 20
_SECTIONS = "sections"

Header = dict[str, Any]


class DamagedFileError(SlotmuxError):
    """Not what was written; the message ends a sentence that begins with the file."""


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of a file, ``begin`` bytes from its beginning."""

    begin: int
    n_bytes: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's header and where its sections are."""

    header: Header
    sections: dict[str, Section]
    n_bytes: int  # of the whole file

    def section(self, data: Bytes, name: str) -> Bytes:
        """A section of the whole file's ``data``, after its checksum was found right. Raises
        DamagedFileError."""
        told = self.sections.get(name)
        if told is None:
            raise DamagedFileError(f"lacks its {name}")
        part = data[told.begin : told.begin + told.n_bytes]
        if len(part) != told.n_bytes or crc32(part.data) != told.checksum:
            raise DamagedFileError("is damaged")
        return part


def encode(header: Mapping[str, Any], sections: Sequence[tuple[str, Bytes]]) -> list[Bytes]:
    """The parts of a file, to be written one behind the other; sections are not copied."""
    flat = [
        (name, np.ascontiguousarray(data).reshape(-1).view(np.uint8)) for name, data in sections
    ]
    told = [[name, len(data), crc32(data.data)] for name, data in flat]
    head = json.dumps({**header, _SECTIONS: told}, separators=(",", ":")).encode()
    assert len(head) <= _MAX_HEADER
    front = _HEAD.pack(MAGIC, len(head), crc32(head)) + head
    return [np.frombuffer(front, np.uint8), *(data for _, data in flat)]


def header_bytes(data: Bytes) -> int:
    """Bytes of a file up to its first section, told by its first HEAD_BYTES. Raises
    DamagedFileError."""
    if len(data) < HEAD_BYTES:
        raise DamagedFileError("is cut off")
    magic, n_header, _ = _HEAD.unpack(data[:HEAD_BYTES].data)
    if magic != MAGIC:
        raise DamagedFileError("is of another version, or no memory at all")
    if n_header > _MAX_HEADER:
        raise DamagedFileError("is damaged")
    return HEAD_BYTES + int(n_header)


def decode(data: Bytes) -> Layout:
    """The layout of a file whose beginning, header and all, is ``data``. Raises
    DamagedFileError."""
    begin = header_bytes(data)
    head = data[HEAD_BYTES:begin].tobytes()
    if len(head) != begin - HEAD_BYTES or crc32(head) != _HEAD.unpack(data[:HEAD_BYTES].data)[2]:
        raise DamagedFileError("is damaged")
    # The checksum was right, so the header is one that was written.
    header: Header = json.loads(head)
    sections = {}
    for name, n_bytes, checksum in header.pop(_SECTIONS):
        sections[name] = Section(begin, n_bytes, checksum)
        begin += n_bytes
    return Layout(header, sections, begin)
