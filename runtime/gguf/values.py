"""Key/value pairs of a GGUF header, as they are stored."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType

from slotmux.runtime.gguf.cursor import Cursor
from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import (
    MAX_ARRAY_ITEMS,
    MAX_KEY_BYTES,
    MAX_KEYS,
    MAX_STRING_BYTES,
    MAX_STRING_ITEMS,
    MAX_TEMPLATE_BYTES,
)
from slotmux.runtime.gguf.strings import StringArray, read_string_array

NumericArray: TypeAlias = npt.NDArray[Any]
RawValue: TypeAlias = int | float | bool | str | StringArray | NumericArray

MIN_PAIR_BYTES = 8 + 1 + 4 + 1  # key length, one letter, type, one byte

_SCALARS: dict[GGUFValueType, tuple[struct.Struct, str]] = {
    GGUFValueType.UINT8: (struct.Struct("<B"), "<u1"),
    GGUFValueType.INT8: (struct.Struct("<b"), "<i1"),
    GGUFValueType.UINT16: (struct.Struct("<H"), "<u2"),
    GGUFValueType.INT16: (struct.Struct("<h"), "<i2"),
    GGUFValueType.UINT32: (struct.Struct("<I"), "<u4"),
    GGUFValueType.INT32: (struct.Struct("<i"), "<i4"),
    GGUFValueType.FLOAT32: (struct.Struct("<f"), "<f4"),
    GGUFValueType.UINT64: (struct.Struct("<Q"), "<u8"),
    GGUFValueType.INT64: (struct.Struct("<q"), "<i8"),
    GGUFValueType.FLOAT64: (struct.Struct("<d"), "<f8"),
    GGUFValueType.BOOL: (struct.Struct("<B"), "|u1"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of the header: its declared type, its content, where its content begins."""

    type: GGUFValueType
    value: RawValue
    offset: int


def read_pairs(cursor: Cursor, n_pairs: int) -> dict[str, Entry]:
    """All key/value pairs; a key that comes twice is refused."""
    assert n_pairs <= MAX_KEYS
    entries: dict[str, Entry] = {}
    for index in range(n_pairs):
        start = cursor.pos
        key = cursor.string(f"metadata[{index}].key", MAX_KEY_BYTES)
        if not key:
            raise ModelFileError(f"metadata[{index}].key", start, "a key may not be empty")
        if key in entries:
            raise ModelFileError(key, start, "the key comes twice")
        entries[key] = _read_entry(cursor, key)
    return entries


def _read_entry(cursor: Cursor, key: str) -> Entry:
    kind = _read_type(cursor, key)
    start = cursor.pos
    if kind is GGUFValueType.STRING:
        is_template = key.startswith("tokenizer.chat_template")
        cap = MAX_TEMPLATE_BYTES if is_template else MAX_STRING_BYTES
        return Entry(kind, cursor.string(key, cap), start)
    if kind is GGUFValueType.ARRAY:
        return Entry(kind, _read_array(cursor, key), start)
    return Entry(kind, _read_scalar(cursor, key, kind), start)


def _read_type(cursor: Cursor, key: str) -> GGUFValueType:
    start = cursor.pos
    number = cursor.u32(key)
    try:
        return GGUFValueType(number)
    except ValueError:
        raise ModelFileError(key, start, f"unknown value type {number}") from None


def _read_scalar(cursor: Cursor, key: str, kind: GGUFValueType) -> int | float | bool:
    layout, _ = _SCALARS[kind]
    start = cursor.take(layout.size, key)
    value: int | float = layout.unpack_from(cursor.buffer, start)[0]
    if kind is not GGUFValueType.BOOL:
        return value
    if value > 1:
        raise ModelFileError(key, start, f"a bool is 0 or 1, not {value}")
    return bool(value)


def _read_array(cursor: Cursor, key: str) -> StringArray | NumericArray:
    kind = _read_type(cursor, key)
    if kind is GGUFValueType.ARRAY:
        raise ModelFileError(key, cursor.pos - 4, "arrays of arrays are not supported")
    if kind is GGUFValueType.STRING:
        n_items = cursor.count(f"{key} length", MAX_STRING_ITEMS, 8)
        return read_string_array(cursor, key, n_items)
    layout, dtype = _SCALARS[kind]
    n_items = cursor.count(f"{key} length", MAX_ARRAY_ITEMS, layout.size)
    start = cursor.take(n_items * layout.size, key)
    array: NumericArray = np.frombuffer(cursor.buffer, dtype, n_items, start)
    if kind is GGUFValueType.BOOL:
        if n_items and int(array.max()) > 1:
            raise ModelFileError(key, start + int(array.argmax()), "a bool is 0 or 1")
        return array.view(np.bool_)
    return array
