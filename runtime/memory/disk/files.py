"""The file system as memory on disk uses it: whole files, written once. Raises OSError."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slotmux.runtime.interfaces import Bytes

_PREFIX, PART = ".slotmux-", ".part"  # of names of files that are being written
# No link is followed out of the folder, and no pipe is waited for.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a folder."""

    name: str
    n_bytes: int
    used_ns: int  # when it was last written or used


class Files:
    """Stateless; tests put faults in its place. Any thread."""

    def list(self, folder: Path) -> list[Listed]:
        """Whole files, the least recently used first."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process removed it
                    info = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(info.st_mode) or entry.name.endswith(PART):
                        continue
                    found.append(Listed(entry.name, info.st_size, info.st_mtime_ns))
        return sorted(found, key=lambda each: (each.used_ns, each.name))

    def write(self, path: Path, parts: Sequence[Bytes], *, is_synced: bool = False) -> int:
        """Put a file in place, whole or not at all, readable by us alone; returns its bytes.
        ``is_synced``: it has reached the disk by then."""
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_PREFIX, suffix=PART)
        try:
            with os.fdopen(handle, "wb", buffering=0) as stream:
                for part in parts:
                    _write_all(stream.fileno(), part.data)
                if is_synced:
                    os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return sum(part.nbytes for part in parts)

    def read(self, path: Path, most: int = -1) -> Bytes:
        """A file's content, or its first ``most`` bytes."""
        handle = os.open(path, _READ)
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise OSError("it is no file")
            n = info.st_size if most < 0 else min(most, info.st_size)
            data = np.empty(n, np.uint8)
            n_read = 0
            while n_read < n and (k := os.readv(handle, [data[n_read:].data])):
                n_read += k
        finally:
            os.close(handle)
        return data[:n_read]

    def remove_parts(self, folder: Path, older_s: float = 0.0) -> None:
        """Remove what writers that were killed have left, if it is so old; nobody may still be
        writing it."""
        for path in folder.glob(f"{_PREFIX}*{PART}"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime <= time.time() - older_s:
                    path.unlink()

    def touch(self, path: Path, used_ns: int) -> None:
        """Note when a file was last used."""
        os.utime(path, ns=(used_ns, used_ns))

    def remove(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)


def _write_all(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]
