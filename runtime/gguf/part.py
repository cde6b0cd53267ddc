"""One GGUF file: header, metadata, tensor table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gguf import GGUFValueType

from slotmux.runtime.gguf.cursor import Cursor
from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import (
    DEFAULT_ALIGNMENT,
    MAX_ALIGNMENT,
    MAX_KEYS,
    MAX_TENSORS,
    MIN_ALIGNMENT,
)
from slotmux.runtime.gguf.mapping import map_file
from slotmux.runtime.gguf.metadata import Metadata
from slotmux.runtime.gguf.tensors import MIN_TENSOR_BYTES, TensorInfo, read_tensors
from slotmux.runtime.gguf.values import MIN_PAIR_BYTES, Entry, read_pairs

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)

_OTHER_FILES = (  # what people pass by mistake, by how it begins
    (b"FUGG", "a big-endian GGUF file; only little-endian files are supported"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with git lfs pull"),
    (b"tjgg", "a GGJT file, older than GGUF; convert the model again"),
    (b"lmgg", "a GGML file, older than GGUF; convert the model again"),
    (b"PK\x03\x04", "a zip archive or a PyTorch checkpoint"),
    (b"<!", "an HTML page; the download went wrong"),
    (b"<html", "an HTML page; the download went wrong"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A parsed file: a whole model, or one of a split model's."""

    path: Path
    n_bytes: int
    version: int
    alignment: int
    metadata: Metadata
    tensors: dict[str, TensorInfo]


def read_part(path: Path) -> Part:
    """Map and parse one file. Raises ModelFileError with the file's path."""
    buffer = map_file(path)
    try:
        return parse_part(path, buffer)
    except ModelFileError as error:
        error.path = path
        raise


def parse_part(path: Path, buffer: memoryview) -> Part:
    """Parse a whole file's bytes; views of ``buffer`` stay in the result."""
    cursor = Cursor(buffer)
    version = _read_version(cursor)
    n_tensors = cursor.count("n_tensors", MAX_TENSORS, MIN_TENSOR_BYTES)
    n_pairs = cursor.count("n_kv", MAX_KEYS, MIN_PAIR_BYTES)
    entries = read_pairs(cursor, n_pairs)
    alignment = _alignment(entries)
    tensors = read_tensors(cursor, n_tensors, alignment)
    return Part(path, cursor.size, version, alignment, Metadata(entries, path), tensors)


def _read_version(cursor: Cursor) -> int:
    start = bytes(cursor.buffer[:32])
    if start[:4] != _MAGIC:
        for prefix, name in _OTHER_FILES:
            if start.startswith(prefix):
                raise ModelFileError("magic", 0, f"this is {name}")
        if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < len(cursor.buffer):
            reason = "this is a safetensors file; convert the model to GGUF, or find one converted"
            raise ModelFileError("magic", 0, reason)
        raise ModelFileError("magic", 0, "this is not a GGUF file")
    cursor.take(4, "magic")
    version = cursor.u32("version")
    if version in _VERSIONS:
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *_VERSIONS):
        raise ModelFileError(
            "version", 4, "this is a big-endian GGUF file; only little-endian ones are supported"
        )
    raise ModelFileError("version", 4, f"GGUF version {version}; versions 2 and 3 are supported")


def _alignment(entries: dict[str, Entry]) -> int:
    entry = entries.get("general.alignment")
    if entry is None:
        return DEFAULT_ALIGNMENT
    value = entry.value
    if entry.type is not GGUFValueType.UINT32 or not isinstance(value, int):
        raise ModelFileError("general.alignment", entry.offset, "expected a 32-bit unsigned number")
    is_power = value > 0 and value & (value - 1) == 0
    if not (is_power and MIN_ALIGNMENT <= value <= MAX_ALIGNMENT):
        raise ModelFileError(
            "general.alignment",
            entry.offset,
            f"{value} is not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}",
        )
    return value
