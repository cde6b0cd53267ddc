"""Directories for what this process will run or compute with: ours, and written by nobody else."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


def ensure_own(directory: Path) -> None:
    """Make a directory (mode 0700) if it is not there. Raises PermissionError for one that others
    could write to, OSError for what is none or cannot be made."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = directory.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise PermissionError(f"{directory} is not a directory of ours alone to write (chmod go-w)")


def private_directory(prefix: str) -> Path:
    """A new directory that goes with this process, or, if that is killed, when the next is made:
    whoever uses one holds its lock. Raises OSError."""
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _locked(old):
            shutil.rmtree(old, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=prefix))
    held = contextlib.ExitStack()
    held.enter_context(_locked(path))
    atexit.register(held.close)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds the lock of a directory of ours. Raises OSError where it is not, or is held."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(fd).st_uid != os.getuid():
            raise PermissionError(f"{directory} is not ours")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
