"""Opening a model file: only a regular file is mapped, and nothing here can hang."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import MAX_FILE_BYTES

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)


def map_file(path: Path) -> memoryview:
    """The read-only bytes of the regular file at ``path`` (symlinks are followed). The mapping
    lives as long as any view of it. The file must not be changed in place meanwhile."""
    try:
        # Looked at before it is opened: opening a device can have effects of its own.
        _check_kind(os.stat(path), path)
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError("file", None, f"cannot be opened: {reason}", path) from None
    try:
        status = os.fstat(descriptor)
        _check_kind(status, path)
        return _map(descriptor, status.st_size, path)
    finally:
        os.close(descriptor)


def _map(descriptor: int, size: int, path: Path) -> memoryview:
    if size == 0:
        raise ModelFileError("file", 0, "the file is empty", path)
    if size > MAX_FILE_BYTES:
        raise ModelFileError("file", None, f"{size} bytes are not possible", path)
    try:
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise ModelFileError("file", None, f"cannot be mapped: {error}", path) from None


def _check_kind(status: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "not a regular file")
    raise ModelFileError("file", None, f"a model is a regular file, this is {kind}", path)


def drop_pages(data: npt.NDArray[np.uint8]) -> None:
    """Give back the memory of mapped bytes that have been read; they are read again on demand."""
    owner: object = data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    mapped = owner.obj if isinstance(owner, memoryview) else owner
    if not isinstance(mapped, mmap.mmap) or not hasattr(mapped, "madvise"):
        return  # not of a file, or a system without it
    begin = data.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    page = mmap.PAGESIZE
    first, end = begin // page * page, min(len(mapped), begin + data.nbytes)
    mapped.madvise(mmap.MADV_DONTNEED, first, end - first)
