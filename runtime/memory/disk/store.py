"""The tier's files: kept within a number of bytes, found again after a restart, shared with other
servers of the same key, whatever the disk does.

A file is written under another name and renamed, so it is whole or not there; its sections have
checksums, so it is right or not used. What it holds is named by its content (chain.py), so servers
that share the directory write the same or nothing, and one that finds a file gone has missed it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from slotmux.kernels.own_directory import ensure_own
from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.disk.file_format import (
    HEAD_BYTES,
    DamagedFileError,
    Layout,
    decode,
    encode,
    header_bytes,
)
from slotmux.runtime.memory.disk.files import Files, Listed
from slotmux.runtime.memory.disk.index import Index, Stored
from slotmux.runtime.memory.disk.neighbours import NAME_BYTES, Neighbours, locked, taken
from slotmux.runtime.memory.disk.order import Order
from slotmux.runtime.memory.disk.records import SUFFIX, described, header_of, name_of

log = logging.getLogger(__name__)
FAULTS = ("open", "read", "write", "remove", "damaged", "internal")  # kinds that are counted
_PEEK_BYTES = 16 * 1024  # a header fits, as a rule
_PAUSE_S = 10.0  # without writes, after one has failed
_TOUCH_NS = 60 * 10**9  # how exactly the file system knows when a file was used
# Between two looks for what other servers do, and after a file was found gone.
_LOOK_S, _SOON_S = 30.0, 1.0


class Store:
    """``identity`` (hex) says for what model, cells and numeric path memory is good.

    ``index`` is read anywhere. ``open``, ``put`` and ``close`` are for one thread, the others for
    any. No method raises OSError: faults are counted, and told
    in the log once until there is none.
    """

    def __init__(
        self, directory: Path, n_bytes: int, identity: str, files: Files | None = None
    ) -> None:
        self.identity = identity
        self.max_bytes = n_bytes
        self.index = Index()
        self.faults: Counter[str] = Counter()
        self.n_evicted = 0  # files
        self._folder = directory / identity[: 2 * NAME_BYTES]
        self._files = files or Files()
        self._order = Order()
        self._neighbours = Neighbours(self._folder)
        self._lock = threading.RLock()
        self._held = contextlib.ExitStack()
        self._is_failing = False
        self._resume = 0.0  # when writing is tried again
        self._looked = float("-inf")

    @property
    def n_bytes(self) -> int:
        """Of this key's files. Any thread."""
        return self._order.n_bytes

    @property
    def n_files(self) -> int:
        """Of this key. Any thread."""
        return len(self._order)

    # -- the directory

    def open(self) -> None:
        """Find what an earlier process left."""
        try:
            self._enter()
        except OSError as error:
            self._fault("open", error)
        self._look()
        self._make_room(0)  # the bound may be less than it was, or files come back

    def _enter(self) -> None:
        for folder in (self._folder.parent, self._folder):
            ensure_own(folder)
        self._held.close()
        with contextlib.suppress(OSError), locked(self._folder, is_shared=False):
            self._files.remove_parts(self._folder)
        with contextlib.suppress(OSError):  # what is only read needs no lock
            self._held.enter_context(locked(self._folder, is_shared=True))

    def close(self) -> None:
        """Let others remove the folder."""
        self._held.close()

    def refresh(self, after_s: float = _LOOK_S) -> None:
        """See what others have written or removed, if the last look is so long ago."""
        if time.monotonic() >= self._looked + after_s:
            self._look()

    def _look(self) -> None:
        with self._lock:
            self._looked = time.monotonic()
            try:
                listed = self._listed()
            except OSError as error:
                self._fault("open", error)
                return
            names = {each.name for each in listed}
            for stored in self._order.all():
                if stored.name not in names:
                    self._forget(stored)
        for each in listed:
            if each.name.endswith(SUFFIX) and self._order.get(each.name) is None:
                self._take_in(each)

    def _listed(self) -> list[Listed]:
        """Nothing where somebody has removed the folder: it is made again when it is needed."""
        try:
            listed = self._files.list(self._folder)
            self._neighbours.look()
        except FileNotFoundError:
            return []
        return listed

    def _take_in(self, listed: Listed) -> None:
        path = self._folder / listed.name
        try:
            stored = described(listed, self._layout(path), self.identity)
        except DamagedFileError as error:
            self._remove_damaged(path, error)
            return
        except OSError as error:
            self._fault("read", error)
            return
        with self._lock:
            if self._order.get(stored.name) is None:
                self._order.add(stored)
                self.index.add(stored)

    def _layout(self, path: Path) -> Layout:
        data = self._files.read(path, _PEEK_BYTES)
        if header_bytes(data[:HEAD_BYTES]) > len(data):
            data = self._files.read(path, header_bytes(data[:HEAD_BYTES]))
        return decode(data)

    # -- writing

    @property
    def may_write(self) -> bool:
        """Whether writing is worth a try. Any thread."""
        return time.monotonic() >= self._resume

    def put(self, stored: Stored, sections: Sequence[tuple[str, Bytes]]) -> bool:
        """Write a file, named and sized here, and have it found; False if it could not be."""
        parts = encode(header_of(stored, self.identity), sections)
        stored.name, stored.n_bytes = name_of(stored), taken(sum(part.nbytes for part in parts))
        if not self.may_write or not self._make_room(stored.n_bytes):
            return False
        try:
            self._write(self._folder / stored.name, parts)
        except OSError as error:
            self._resume = time.monotonic() + _PAUSE_S
            self._fault("write", error)
            return False
        self._is_failing = False
        with self._lock:
            known = self._order.get(stored.name)
            if known is not None:
                self._forget(known)
            stored.touched_ns = time.time_ns()
            self._order.add(stored)
            self.index.add(stored)
        return True

    def _write(self, path: Path, parts: Sequence[Bytes]) -> None:
        try:
            self._files.write(path, parts)
        except FileNotFoundError:  # somebody has removed the folder, with all that was in it
            self._enter()
            self._look()
            self._files.write(path, parts)

    def _make_room(self, n_bytes: int) -> bool:
        if n_bytes > self.max_bytes:
            return False
        if self._excess(n_bytes) > 0:
            self.refresh()
        while self._excess(n_bytes) > 0:
            with self._lock:
                if self._neighbours.remove_one():
                    continue
                stored = self._order.first()
                if stored is None:
                    return False
                self._forget(stored)
            self.n_evicted += 1
            self._remove(self._folder / stored.name)
        return True

    def _excess(self, n_bytes: int) -> int:
        return self._order.n_bytes + self._neighbours.n_bytes + n_bytes - self.max_bytes

    # -- reading

    def read(self, stored: Stored) -> tuple[Layout, Bytes] | None:
        """A file's layout and content; None, and it is found no more, if it cannot be had. Its
        sections are still to be checked."""
        path = self._folder / stored.name
        try:
            data = self._files.read(path)
            layout = decode(data)
            if layout.header.get("identity") != self.identity:
                raise DamagedFileError("belongs to another model")
        except DamagedFileError as error:
            self.drop(stored, error)
        except FileNotFoundError:  # another server has evicted it, or somebody removed it
            with self._lock:
                self._forget(stored)
            self.refresh(_SOON_S)
        except OSError as error:
            self._fault("read", error)
            self.drop(stored)
        else:
            return layout, data
        return None

    def drop(self, stored: Stored, why: DamagedFileError | None = None) -> None:
        """Remove a file that cannot be used, or is to be forgotten."""
        with self._lock:
            self._forget(stored)
        path = self._folder / stored.name
        if why is None:
            self._remove(path)
        else:
            self._remove_damaged(path, why)

    def touch(self, path: Iterable[Stored], *, is_hit: bool = False) -> None:
        """Files were used; the first of them counts as used the longest ago."""
        now = time.time_ns()
        for i, stored in enumerate(path):
            with self._lock:
                if self._order.get(stored.name) is not stored:
                    continue
                self._order.touch(stored)
                stored.n_hits += is_hit
            if now - stored.touched_ns > _TOUCH_NS:
                stored.touched_ns = now + i
                with contextlib.suppress(OSError):  # only the order after a restart hangs on it
                    self._files.touch(self._folder / stored.name, now + i)

    def demote(self, stored: Stored) -> None:
        """Let a file that nobody came back to go before others."""
        with self._lock:
            if self._order.get(stored.name) is stored and not stored.n_hits:
                self._order.demote(stored)

    # -- faults

    def _forget(self, stored: Stored) -> None:
        if self._order.get(stored.name) is stored:
            self._order.remove(stored)
            self.index.remove(stored)

    def _remove(self, path: Path) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):  # that is what was wanted
                self._files.remove(path)
        except OSError as error:
            self._fault("remove", error)

    def _remove_damaged(self, path: Path, why: DamagedFileError) -> None:
        self.faults["damaged"] += 1
        log.warning("prefix cache on disk: %s %s; it is left out and removed", path.name, why)
        self._remove(path)

    def _fault(self, kind: str, error: OSError) -> None:
        self.faults[kind] += 1
        if not self._is_failing:
            self._is_failing = True
            log.warning(
                "prefix cache on disk: %s fails in %s: %s; serving goes on without", kind,
                self._folder.parent, error.strerror or error,
            )  # fmt: skip
