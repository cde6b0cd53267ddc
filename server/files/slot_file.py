"""A saved slot on disk: one whole prefix, laid out as the files of the prefix cache's tier on disk
are (runtime/memory/disk/file_format.py), good for one model only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.disk.file_format import DamagedFileError, Layout, decode, encode
from slotmux.runtime.memory.disk.files import Files
from slotmux.runtime.memory.saved import SavedPrefix
from slotmux.runtime.memory.sequence import SavedState

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_KIND = "slot"


class SlotFileError(Exception):
    """A file that cannot be used; the message says why and may be shown."""


def is_file_name(name: str) -> bool:
    """Whether a client may call a file so: no folders, nothing hidden, nothing odd."""
    return _NAME.fullmatch(name) is not None


def write_slot(path: Path, saved: SavedPrefix, identity: str) -> int:
    """Writes all or nothing, readable by us alone; returns the number of bytes. Raises OSError."""
    header = {
        "identity": identity,
        "kind": _KIND,
        "salt": saved.salt,
        "n_blocks": len(saved.blocks),
        "states": [[state.position, state.n_pending] for state in saved.states],
    }
    sections = [("tokens", saved.tokens.astype("<i4").view(np.uint8)), ("blocks", saved.blocks)]
    sections += [(f"row {i}", state.data) for i, state in enumerate(saved.states)]
    return Files().write(path, encode(header, sections), is_synced=True)


def read_slot(path: Path, identity: str, *, max_tokens: int) -> tuple[SavedPrefix, int]:
    """What was saved, and the number of bytes. Raises SlotFileError, or OSError."""
    data = Files().read(path)
    try:
        layout = decode(data)
        if layout.header.get("kind") != _KIND:
            raise SlotFileError("it is no saved slot")
        if layout.n_bytes != len(data):
            raise SlotFileError("it is cut off")
        sections = {name: layout.section(data, name) for name in layout.sections}
    except DamagedFileError as error:
        raise SlotFileError(f"it {error}") from None
    if layout.header["identity"] != identity:
        raise SlotFileError("it was saved with another model or other types of cells")
    saved = _prefix(layout, sections)
    if len(saved.tokens) > max_tokens:
        raise SlotFileError("it holds more tokens than the context")
    return saved, len(data)


def _prefix(layout: Layout, sections: dict[str, Bytes]) -> SavedPrefix:
    """The checksums were right, so the sizes are those that were written."""
    header = layout.header
    blocks = sections["blocks"].reshape(header["n_blocks"], -1) if header["n_blocks"] else None
    return SavedPrefix(
        header["salt"],
        sections["tokens"].view("<i4").astype(np.int32),
        blocks if blocks is not None else np.zeros((0, 0), np.uint8),
        [
            SavedState(position, n_pending, sections[f"row {i}"])
            for i, (position, n_pending) in enumerate(header["states"])
        ],
    )
