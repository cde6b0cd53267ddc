"""Repacked weights kept on disk, so that the next start reads them instead of repacking.

One file a model, named after the identity of the model's files (path, size, time of change) and
of the code that lays panels out. Written whole or not at all, in a directory that is ours.

A file's end tells of which model it is. Whenever one is written or read, those go whose model is
gone or is not as it was, and those that nobody has read for KEPT_DAYS.

It is read into memory of the process's own and every piece is checked on the way, chunk by chunk
while it is in a core's cache (some 3 GB/s a thread, more than most disks give). A mapped file would
save that copy, but whoever cuts or changes it would end the server or change its answers. What is
damaged is repacked, and the file written anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.own_directory import ensure_own
from slotmux.kernels.sources import source_digest
from slotmux.runtime.gguf import GGUFFile

log = logging.getLogger(__name__)
_MAGIC = b"slotmux-panels-2\n"
_PAGE, _ALIGNMENT, _CHUNK = 4096, 64, 1 << 20
_PART = ".part"  # of files that are being written
KEPT_DAYS = 90
_DAY = 24 * 3600
_END = b"\nslotmux-panels-of\n"  # ends a file, behind the model's files and the length of that
Bytes = NDArray[np.uint8]


class PanelCache:
    """The place of one model's panels in a directory. A directory that is not ours, or cannot
    be written, is left alone with a warning: the model is repacked as without a cache."""

    def __init__(self, directory: Path, file: GGUFFile) -> None:
        # Other versions of the same model go when this one is written.
        self._model = f"{file.paths[0].stem}-{_short(str(file.paths[0].resolve()).encode())}-"
        self._identity = [_identity(path) for path in file.paths]
        digest = hashlib.sha256(_MAGIC + json.dumps(self._identity).encode())
        digest.update(source_digest().encode())
        # The order in which panels are asked for follows from how models are lowered.
        for folder in ("lowering", "models"):
            for source in sorted((Path(__file__).parents[1] / folder).rglob("*.py")):
                digest.update(source.read_bytes())
        self._path = directory / f"{self._model}{digest.hexdigest()[:24]}.panels"

    def read(self, pieces: Sequence[Bytes], progress: Callable[[float], None]) -> bool:
        """Fill ``pieces``, in the order in which they were written; False, with a line in the log
        unless there is just no file, if they must be repacked. ``progress`` hears the share done.
        """
        if not self._path.exists():
            return False
        try:
            ensure_own(self._path.parent)
            with self._path.open("rb") as file:
                if _model_of(self._path) != self._identity:
                    raise ValueError("its end is damaged")
                self._fill(file.fileno(), pieces, progress)
                _note_use(file.fileno())
        except (OSError, ValueError) as error:
            log.warning("panel cache %s is not used and made anew: %s", self._path, error)
            return False
        self._remove_stale()
        return True

    def _fill(self, fd: int, pieces: Sequence[Bytes], progress: Callable[[float], None]) -> None:
        sums = _read_header(fd, pieces)
        places = _places(pieces)
        n_bytes, n_done = max(1, sum(piece.nbytes for piece in pieces)), 0
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            read = pool.map(lambda piece, at: _read_piece(fd, piece, at), pieces, places)
            for piece, got, want in zip(pieces, read, sums, strict=True):
                if got != want:
                    raise ValueError("its content is damaged")
                n_done += piece.nbytes
                progress(n_done / n_bytes)

    def write(self, pieces: Sequence[Bytes]) -> None:
        """Keep the panels, in the order in which they will be asked for."""
        folder = self._path.parent
        try:
            ensure_own(folder)
            _remove_abandoned(folder)
            with tempfile.NamedTemporaryFile(dir=folder, suffix=_PART, delete=False) as file:
                try:
                    with contextlib.suppress(OSError):  # a disk without locks: nobody removes it
                        fcntl.flock(file, fcntl.LOCK_EX)
                    file.write(_header(pieces))
                    for piece in pieces:
                        file.write(piece.data)
                        file.write(b"\0" * (-piece.nbytes % _ALIGNMENT))
                    file.write(_end(self._identity))
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(self._path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            self._remove_stale()
        except OSError as error:
            log.warning("panel cache not written: %s", error)

    def _remove_stale(self) -> None:
        """Panels of older versions of this model, and those that nobody will read."""
        for old in self._path.parent.glob("*.panels"):
            is_mine = old.name.startswith(self._model)
            if old != self._path and (is_mine or _is_stale(old)):
                with contextlib.suppress(OSError):  # a disk that takes no more: they are only large
                    old.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Parts, as large as a model, whose writer was killed: nobody holds their lock any more."""
    for path in folder.glob(f"*{_PART}"):
        with contextlib.suppress(OSError), path.open("rb") as file:  # held, or gone by now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _identity(path: Path) -> list[str | int]:
    """What says that a file of a model is as it was. Raises OSError where it is gone."""
    info = path.stat()
    return [str(path.resolve()), info.st_size, info.st_mtime_ns]


def _end(identity: list[list[str | int]]) -> bytes:
    """The end of a file of panels: its model's files, how long that is, and a mark."""
    told = json.dumps(identity).encode()
    return told + len(told).to_bytes(8, "little") + _END


def _model_of(path: Path) -> list[list[str | int]] | None:
    """The model's files as they were when panels were written; None: the file does not tell."""
    with path.open("rb") as file:
        tail = len(_END) + 8
        size = file.seek(0, os.SEEK_END)
        if size < tail:
            return None
        file.seek(size - tail)
        length, mark = int.from_bytes(file.read(8), "little"), file.read()
        if mark != _END or length > size - tail:
            return None
        file.seek(size - tail - length)
        identity: list[list[str | int]] = json.loads(file.read(length))
        return identity


def _is_stale(path: Path) -> bool:
    """Whether nobody will read a file of panels: its model is gone or is not as it was, or nobody
    has for long. One that cannot be read now is left alone."""
    try:
        info = path.stat()
        if max(info.st_atime, info.st_mtime) < time.time() - KEPT_DAYS * _DAY:
            return True
        return any(_has_changed(told) for told in _model_of(path) or [])
    except (OSError, ValueError, TypeError, IndexError):  # gone by now, or its end is damaged
        return False


def _has_changed(told: list[str | int]) -> bool:
    try:
        return _identity(Path(str(told[0]))) != told
    except OSError:
        return True


def _note_use(fd: int) -> None:
    """Keep the time of the last use where disks do not note it themselves."""
    with contextlib.suppress(OSError):  # another user's disk: what is read is still right
        os.utime(fd, ns=(time.time_ns(), os.fstat(fd).st_mtime_ns))


def _short(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:12]


def _header(pieces: Sequence[Bytes]) -> bytes:
    """Magic, a checksum of what follows, the number of pieces, of each its size and checksum."""
    table = np.array([(p.nbytes, zlib.crc32(p.data)) for p in pieces], np.uint64).tobytes()
    body = len(pieces).to_bytes(8, "little") + table
    head = _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body
    return head.ljust(_header_bytes(len(pieces)), b"\0")


def _header_bytes(n_pieces: int) -> int:
    return -(-(len(_MAGIC) + 12 + 16 * n_pieces) // _PAGE) * _PAGE


def _places(pieces: Sequence[Bytes]) -> list[int]:
    """Where each piece begins in the file."""
    places, at = [], _header_bytes(len(pieces))
    for piece in pieces:
        places.append(at)
        at += -(-piece.nbytes // _ALIGNMENT) * _ALIGNMENT
    return places


def _read_header(fd: int, pieces: Sequence[Bytes]) -> list[int]:
    """The pieces' checksums. Raises ValueError for a file that is not of these pieces."""
    head = os.pread(fd, _header_bytes(len(pieces)), 0)
    if not head.startswith(_MAGIC):
        raise ValueError("it has another format")
    at = len(_MAGIC) + 4
    body = head[at : at + 8 + 16 * len(pieces)]
    if zlib.crc32(body) != int.from_bytes(head[at - 4 : at], "little"):
        raise ValueError("its header is damaged")
    table = np.frombuffer(body[8:], np.uint64).reshape(-1, 2)
    if table[:, 0].tolist() != [piece.nbytes for piece in pieces]:
        raise ValueError("it holds other panels than the model needs")
    return [int(value) for value in table[:, 1]]


def _read_piece(fd: int, piece: Bytes, at: int) -> int:
    """Read a piece; returns its checksum. Raises ValueError where the file ends before it."""
    checksum, done, view = 0, 0, memoryview(piece.data).cast("B")
    while done < piece.nbytes:
        part = view[done : done + _CHUNK]
        n = os.preadv(fd, [part], at + done)
        if not n:
            raise ValueError("it ends too early")
        checksum = zlib.crc32(part[:n], checksum)
        done += n
    return checksum
