"""What else lies in the tier's directory: memory of other models, cell types or numeric paths,
which this server cannot use. It counts, and goes first, unless another server uses it now."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

NAME_BYTES = 16
_NAME = re.compile(rf"[0-9a-f]{{{2 * NAME_BYTES}}}")
_LOCK = "lock"
_PAGE = 4096


class Neighbours:
    """The other folders of a directory. Whoever calls holds the store's lock."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._n_bytes: dict[Path, int] = {}  # the least recently used first

    @property
    def n_bytes(self) -> int:
        """Of all of them, as of the last look."""
        return sum(self._n_bytes.values())

    def look(self) -> None:
        """Count anew. What cannot be read counts nothing."""
        folders = [p for p in self._own.parent.iterdir() if _NAME.fullmatch(p.name)]
        used = sorted((_used_ns(p), p) for p in folders if p != self._own and not p.is_symlink())
        self._n_bytes = {path: _size(path) for _, path in used}

    def remove_one(self) -> bool:
        """Remove the least recently used one that no server uses; False if there is none."""
        for path in list(self._n_bytes):
            with contextlib.suppress(OSError), locked(path, is_shared=False):
                shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                del self._n_bytes[path]
                return True
        return False


@contextlib.contextmanager
def locked(folder: Path, *, is_shared: bool) -> Iterator[None]:
    """Holds a folder: shared by the servers that use it, alone by who removes it. Raises OSError
    where others are in the way."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if is_shared:
            os.utime(handle)
        yield
    finally:
        os.close(handle)


def taken(n_bytes: int) -> int:
    """What a file takes of the disk."""
    return -(-n_bytes // _PAGE) * _PAGE


def _used_ns(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / _LOCK).stat().st_mtime_ns
    return 0


def _size(folder: Path) -> int:
    n_bytes = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                n_bytes += taken(entry.stat(follow_symlinks=False).st_size)
    return n_bytes
