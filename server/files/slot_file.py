"""A saved slot on disk: versioned, checksummed, good for one model only.

magic | length of the header | header (JSON) | token ids | blocks | states | SHA-256 of all before
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slotmux.runtime.memory.saved import SavedPrefix
from slotmux.runtime.memory.sequence import SavedState

MAGIC = b"slotmux slot 1\n\0"
_LENGTH = struct.Struct("<Q")
_DIGEST_BYTES = 32
_MAX_HEADER = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class SlotFileError(Exception):
    """A file that cannot be used; the message says why and may be shown."""


def is_file_name(name: str) -> bool:
    """Whether a client may call a file so: no folders, nothing hidden, nothing odd."""
    return _NAME.fullmatch(name) is not None


def write_slot(path: Path, saved: SavedPrefix, identity: str) -> int:
    """Writes all or nothing, readable by us alone; returns the number of bytes. Raises OSError."""
    header = {
        "identity": identity,
        "salt": saved.salt,
        "n_tokens": len(saved.tokens),
        "n_blocks": len(saved.blocks),
        "block_bytes": len(saved.blocks[0]) if saved.blocks else 0,
        "states": [[state.position, state.n_pending] for state in saved.states],
        "row_bytes": len(saved.states[0].data) if saved.states else 0,
    }
    head = orjson.dumps(header)
    parts = [MAGIC, _LENGTH.pack(len(head)), head, saved.tokens.astype("<i4").tobytes()]
    parts += [*saved.blocks, *(state.data for state in saved.states)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    parts.append(digest.digest())
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".slot-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return sum(map(len, parts))


def read_slot(path: Path, identity: str, *, max_tokens: int) -> tuple[SavedPrefix, int]:
    """What was saved, and the number of bytes. Raises SlotFileError, or OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(path, flags), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise SlotFileError("it is no file")
        if stream.read(len(MAGIC)) != MAGIC:
            raise SlotFileError("it is no saved slot of this version")
        stream.seek(0)
        data = stream.read()
    body = memoryview(data)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != data[-_DIGEST_BYTES:]:
        raise SlotFileError("it is damaged")
    header, begin = _header(body)
    if header["identity"] != identity:
        raise SlotFileError("it was saved with another model or other types of cells")
    if header["n_tokens"] > max_tokens:
        raise SlotFileError("it holds more tokens than the context")
    return _prefix(header, body[begin:]), len(data)


def _header(body: memoryview) -> tuple[dict[str, Any], int]:
    begin = len(MAGIC) + _LENGTH.size
    (n_bytes,) = _LENGTH.unpack(body[len(MAGIC) : begin])
    if n_bytes > _MAX_HEADER:
        raise SlotFileError("it is damaged")
    header: dict[str, Any] = orjson.loads(body[begin : begin + n_bytes])
    return header, begin + n_bytes


def _prefix(header: dict[str, Any], rest: memoryview) -> SavedPrefix:
    """The checksum was right, so the sizes are those that were written."""
    n_tokens, n_block, n_row = header["n_tokens"], header["block_bytes"], header["row_bytes"]
    tokens = np.frombuffer(rest[: 4 * n_tokens], "<i4").astype(np.int32)
    begin = 4 * n_tokens
    blocks = []
    for _ in range(header["n_blocks"]):
        blocks.append(bytes(rest[begin : begin + n_block]))
        begin += n_block
    states = []
    for position, n_pending in header["states"]:
        states.append(SavedState(position, n_pending, bytes(rest[begin : begin + n_row])))
        begin += n_row
    return SavedPrefix(header["salt"], tokens, blocks, states)
