"""Directories for what this process will run or compute with: ours, and written by nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def ensure_own(directory: Path) -> None:
    """Make a directory (mode 0700) if it is not there. Raises PermissionError for one that others
    could write to, OSError for what is none or cannot be made."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = directory.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise PermissionError(f"{directory} is not a directory of ours alone to write (chmod go-w)")
