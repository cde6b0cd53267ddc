"""Repacked weights kept on disk, so that the next start maps them instead of repacking.

One file a model, named after the identity of the model's files (path, size, time of change) and
of the code that lays panels out. Written whole or not at all; the directory is ours, mode 0700.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.compiler import source_digest
from slotmux.runtime.gguf import GGUFFile

log = logging.getLogger(__name__)
_MAGIC = b"slotmux-panels-1\n"
_HEADER = 4096  # panels begin at a page's border
Bytes = NDArray[np.uint8]


class PanelCache:
    """The place of one model's panels in a directory. A directory that is not ours, or cannot
    be written, is left alone with a warning: the model is repacked as without a cache."""

    def __init__(self, directory: Path, file: GGUFFile) -> None:
        digest = hashlib.sha256(_MAGIC)
        for path in file.paths:
            info = path.stat()
            digest.update(f"{path.resolve()}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
        digest.update(source_digest().encode())
        # The order in which panels are asked for follows from how models are lowered.
        for folder in ("lowering", "models"):
            for source in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
                digest.update(source.read_bytes())
        self._path = directory / f"{file.paths[0].stem}-{digest.hexdigest()[:24]}.panels"

    def read(self) -> Bytes | None:
        """The panels one after the other, mapped read-only; None if they are not there."""
        try:
            with self._path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    return None
            return np.memmap(self._path, np.uint8, "r", offset=_HEADER)
        except (OSError, ValueError):
            return None

    def write(self, pieces: Sequence[Bytes]) -> None:
        """Keep the panels, in the order in which they will be asked for."""
        folder = self._path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = folder.lstat()
            if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
                raise PermissionError(f"{folder} is not a directory of ours with mode 0700")
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                try:
                    file.write(_MAGIC.ljust(_HEADER, b"\0"))
                    for piece in pieces:
                        file.write(piece.data)
                        file.write(b"\0" * (-piece.nbytes % 64))
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(self._path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            log.warning("panel cache not written: %s", error)
