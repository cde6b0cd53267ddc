"""The thread that reads what queued prompts lack, ahead of their turn, within a bound of memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.disk.chain import digests_of
from slotmux.runtime.memory.disk.fetch import (
    BlocksPiece,
    Fetch,
    Piece,
    StatePiece,
    piece_bytes,
)
from slotmux.runtime.memory.disk.file_format import DamagedFileError
from slotmux.runtime.memory.disk.index import Stored, StoredState
from slotmux.runtime.memory.disk.lookup import Finding, Part, look_up
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.memory.prefix_tree import TOKEN_BYTES
from slotmux.runtime.ubatch import BLOCK_CELLS

log = logging.getLogger(__name__)
STAGED_BYTES = 64 * 2**20  # read ahead of the engine, at most, beyond one piece
_RATE = 200e6  # bytes a second, until it has been measured
_RATE_WEIGHT = 0.2  # of a new measurement


class Reader:
    """``shape``: bytes of a block and of a row; what has another is damaged. ``notify`` is called
    after each piece, on the reader's thread."""

    def __init__(self, store: Store, shape: tuple[int, int], notify: Callable[[], None]) -> None:
        self._store = store
        self._block_bytes, self._row_bytes = shape
        self._notify = notify
        self._changed = threading.Condition()
        self._fetches: list[Fetch] = []
        self._n_staged = 0
        self._is_closed = False
        self.rate = _RATE
        self.n_read_bytes = 0
        self._thread = threading.Thread(target=self._run, name="slotmux-fetch", daemon=True)
        self._thread.start()

    # -- for the engine thread

    def ask(self, fetch: Fetch) -> None:
        """Begin to read for a fetch."""
        with self._changed:
            self._fetches.append(fetch)
            self._changed.notify()

    def hurry(self, fetch: Fetch) -> None:
        """A slot waits for it: it goes before those that only may come in later."""
        with self._changed:
            fetch.is_urgent = True
            self._changed.notify()

    def take(self, fetch: Fetch) -> Piece | None:
        """The next piece, if it is there."""
        if not fetch.pieces:
            return None
        piece = fetch.pieces.popleft()
        with self._changed:
            self._unstage(fetch, piece_bytes(piece))
        return piece

    def cancel(self, fetch: Fetch) -> None:
        """Read no more for it, and let go of what was read."""
        with self._changed:
            fetch.is_cancelled = True
            fetch.pieces.clear()
            self._unstage(fetch, fetch.n_staged)

    def close(self) -> None:
        """End the thread; a read under way is not waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _unstage(self, fetch: Fetch, n_bytes: int) -> None:
        fetch.n_staged -= n_bytes
        self._n_staged -= n_bytes
        self._changed.notify()

    # -- the thread

    def _run(self) -> None:
        while (fetch := self._next()) is not None:
            try:
                self._serve(fetch)
            except Exception:  # a prompt that is computed, no more
                log.exception("reading the prefix cache on disk failed")
                self._store.faults["internal"] += 1
                self._end(fetch)

    def _next(self) -> Fetch | None:
        """The fetch to read a piece for, waiting for one; None: the end."""
        with self._changed:
            while not self._is_closed:
                self._fetches = [f for f in self._fetches if not (f.is_cancelled or f.is_done)]
                for fetch in self._fetches:
                    if fetch.is_urgent and fetch.n_staged < STAGED_BYTES:
                        return fetch
                if self._fetches and self._n_staged < STAGED_BYTES:
                    return self._fetches[0]
                self._changed.wait()
        return None

    def _serve(self, fetch: Fetch) -> None:
        if not fetch.n_found:
            finding = self._find(fetch)
            if finding is None:
                self._end(fetch)
                return
            fetch.todo.extend(finding.parts)
            if finding.state is not None:
                fetch.todo.append(finding.state)
            fetch.n_found = finding.n_tokens
        piece = self._read(fetch.todo.popleft())
        with self._changed:
            if piece is not None and not fetch.is_cancelled:
                n_bytes = piece_bytes(piece)
                fetch.n_staged += n_bytes
                self._n_staged += n_bytes
                fetch.pieces.append(piece)
        if piece is None or not fetch.todo or fetch.is_cancelled:
            self._end(fetch)
        else:
            self._notify()

    def _end(self, fetch: Fetch) -> None:
        fetch.is_done = True
        self._notify()

    def _find(self, fetch: Fetch) -> Finding | None:
        """What there is, if it is read sooner than computed."""
        sought = fetch.sought
        digests = digests_of(fetch.salt, sought.raw[: sought.limit * TOKEN_BYTES])
        index = self._store.index
        finding = look_up(index, digests, sought)
        if finding is None:
            return None
        n_gained = finding.n_tokens - sought.n_have
        if finding.n_bytes / self.rate > n_gained * fetch.token_s:
            return None
        whole = digests[1 : finding.n_tokens // BLOCK_CELLS + 1]
        path = [found[0] for digest in whole if (found := index.blocks.get(digest)) is not None]
        used = [finding.state] if finding.state is not None else []
        # The deepest first: whoever goes on from an earlier block is kept longer.
        self._store.touch(dict.fromkeys([*used, *reversed(path)]), is_hit=True)
        return finding

    def _read(self, wanted: Part | StoredState) -> Piece | None:
        stored: Stored = wanted.stored if isinstance(wanted, Part) else wanted
        begin = time.monotonic()
        read = self._store.read(stored)
        if read is None:
            return None
        layout, data = read
        try:
            if isinstance(wanted, Part):
                blocks = self._shaped(layout.section(data, "blocks"), self._block_bytes)
                end = wanted.first + wanted.end - wanted.begin
                if len(blocks) != len(wanted.stored.digests):
                    raise DamagedFileError("holds memory of another shape")
                piece: Piece = BlocksPiece(wanted.begin, blocks[wanted.first : end].copy())
            else:
                row = self._shaped(layout.section(data, "row"), self._row_bytes)
                tail = None
                if wanted.rest and self._block_bytes:
                    tail = self._shaped(layout.section(data, "tail"), self._block_bytes)
                piece = StatePiece(
                    wanted.position, wanted.n_pending, wanted.state_kind, row[0], tail
                )
        except DamagedFileError as error:
            self._store.drop(stored, error)
            return None
        seconds = max(time.monotonic() - begin, 1e-6)
        self.rate += _RATE_WEIGHT * (len(data) / seconds - self.rate)
        self.n_read_bytes += len(data)
        return piece

    def _shaped(self, section: Bytes, n_bytes: int) -> Bytes:
        if not n_bytes or len(section) % n_bytes or not len(section):
            raise DamagedFileError("holds memory of another shape")
        return section.reshape(-1, n_bytes)
