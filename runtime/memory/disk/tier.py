"""The disk tier as the engine sees it: what is left is spilled, what is queued is fetched. Engine
thread only, but for ``stats``; no method waits for the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slotmux.runtime.memory.disk.chain import next_digest, node_digest, root_digest
from slotmux.runtime.memory.disk.fetch import BlocksPiece, Fetch
from slotmux.runtime.memory.disk.install import install_blocks, install_state, unpin
from slotmux.runtime.memory.disk.lookup import Sought
from slotmux.runtime.memory.disk.reader import STAGED_BYTES as READ_BYTES
from slotmux.runtime.memory.disk.reader import Reader
from slotmux.runtime.memory.disk.spill import Spill, Times
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.memory.disk.writer import Writer
from slotmux.runtime.memory.match import known_path, match_of
from slotmux.runtime.memory.memory import Memory
from slotmux.runtime.memory.prefix_tree import BLOCK_BYTES, TOKEN_BYTES, Node
from slotmux.runtime.ubatch import BLOCK_CELLS, I32

# Memory of what is read ahead: of all that wait, of one that is waited for, and of a file.
STAGED_BYTES = 3 * READ_BYTES
MIN_TOKENS = 2 * BLOCK_CELLS  # fewer are not worth a look at the disk
MAX_LOOKS = 3  # for one choice: memory may evict what a fetch goes on from
_TOKEN_S = 0.005  # what computing a token takes, until it has been measured


class Waiting(Protocol):
    """What the tier reads and changes of a waiting choice (engine/choice.py)."""

    tokens: I32
    fetch: Fetch | None
    n_looks: int
    t_looked: float

    @property
    def salt(self) -> str | None: ...
    @property
    def most_reused(self) -> int: ...


@dataclass(frozen=True, slots=True)
class DiskStats:
    """Of the tier, since the start; bytes and files as they are now."""

    max_bytes: int
    n_bytes: int
    n_files: int
    n_evicted: int
    n_written_blocks: int
    n_written_states: int
    n_written_bytes: int
    n_read_blocks: int
    n_read_states: int
    n_read_bytes: int
    n_lost: int  # blocks and states evicted from memory before they were written
    faults: dict[str, int] = field(default_factory=dict)  # by kind


class Tier:
    """``notify`` is called on another thread when there is something to put in place."""

    def __init__(self, memory: Memory, store: Store, notify: Callable[[], None]) -> None:
        pools = memory.pools
        shape = (
            pools.blocks.block_bytes if pools.has_blocks else 0,
            pools.rows.row_bytes if pools.has_rows else 0,
        )
        self.store = store
        self.times = Times()
        self._memory = memory
        self._writer = Writer(store, pools)
        self._reader = Reader(store, shape, notify)
        self._spill = Spill(pools, store, self._writer, self.times, self._unpin)
        self._live: list[Fetch] = []
        self._n_blocks = self._n_states = 0  # put in place
        self.token_s = _TOKEN_S
        pools.spill = self._spill

    # -- what waits

    def look_ahead(self, choices: Sequence[Waiting], now: float) -> None:
        """Begin to read what the next in line lack."""
        for choice in choices:
            if not choice.n_looks:
                self._look_up(choice, now)

    def _look_up(self, choice: Waiting, now: float) -> Fetch | None:
        choice.n_looks += 1
        choice.t_looked = now
        choice.fetch = self._ask(choice, now)
        return choice.fetch

    def _ask(self, choice: Waiting, now: float) -> Fetch | None:
        salt, limit = choice.salt, self._limit(choice)
        if salt is None or limit < MIN_TOKENS:
            return None
        sought, path = self._sought(salt, choice.tokens[:limit].tobytes())
        if limit - sought.n_have < MIN_TOKENS or not self._may_help(salt, path, sought):
            return None
        fetch = Fetch(salt, sought, self.token_s, now)
        self._live.append(fetch)
        self._reader.ask(fetch)
        return fetch

    def _limit(self, choice: Waiting) -> int:
        """The last known token is always computed."""
        return min(len(choice.tokens) - 1, choice.most_reused)

    def _sought(self, salt: str, raw: bytes) -> tuple[Sought, list[Node]]:
        pools = self._memory.pools
        path = known_path(pools.tree, salt, raw)
        match = match_of(pools.tree, salt, path, raw, needs_row=pools.has_rows)
        n_limit, n_path = len(raw) // TOKEN_BYTES, len(path) * BLOCK_CELLS
        counts = (n_limit, match.n_tokens, n_path)
        return Sought(raw, *counts, pools.has_blocks, pools.has_rows), path

    def _is_out_of_date(self, choice: Waiting, now: float) -> bool:
        """Whether it is to be looked up again: memory may have forgotten what a fetch goes on from,
        while it waited for its turn or was put in place."""
        fetch = choice.fetch
        has_waited = choice.n_looks == 1 and now > choice.t_looked
        if fetch is None:
            return has_waited
        if has_waited and not fetch.is_urgent:
            known, _ = self._sought(fetch.salt, fetch.sought.raw)
            asked = fetch.sought
            if known.n_have < asked.n_have or known.n_path < asked.n_path:
                self._drop(fetch)
                fetch.is_broken = True
        return fetch.is_broken

    def _may_help(self, salt: str, path: list[Node], sought: Sought) -> bool:
        """Whether the disk may have more than memory: False is certain, and quickly told."""
        index, raw = self.store.index, sought.raw
        if not sought.has_blocks:
            return next_digest(root_digest(salt), raw[:BLOCK_BYTES]) in index.firsts
        digest = node_digest(path[-1]) if path else root_digest(salt)
        begin = len(path) * BLOCK_BYTES
        key = raw[begin : begin + BLOCK_BYTES]
        if len(key) == BLOCK_BYTES and next_digest(digest, key) in index.blocks:
            return True
        if not sought.has_rows:
            return False
        n_have = sought.n_have
        for node in reversed(path):
            if node.end + BLOCK_CELLS <= n_have:
                return False
            state = index.state_at(node_digest(node), raw, node.end, sought.limit)
            if state is not None and state.position > n_have:
                return True
        return False

    def is_waiting(self, choice: Waiting, now: float) -> bool:
        """Whether a choice that could have a slot had better wait for what is being read: only as
        long as computing it would have taken."""
        fetch = choice.fetch
        if self._is_out_of_date(choice, now) and choice.n_looks < MAX_LOOKS:
            fetch = self._look_up(choice, now)
        if fetch is None or fetch.is_over:
            return False
        if not fetch.is_urgent:
            fetch.began = now
            self._reader.hurry(fetch)
            return True
        if now - fetch.began > fetch.worth_s:
            self._drop(fetch)
            return False
        return True

    def give_up(self, choice: Waiting) -> None:
        """A choice is admitted, or gone."""
        if choice.fetch is not None:
            self._drop(choice.fetch)

    def from_disk(self, choice: Waiting, n_reused: int) -> int:
        """How many of the tokens that a choice reuses are in memory thanks to the disk."""
        fetch = choice.fetch
        if fetch is None:
            return 0
        return max(0, min(n_reused, fetch.n_installed) - fetch.sought.n_have)

    @property
    def is_reading(self) -> bool:
        """Whether somebody in line waits for the disk."""
        return bool(self._live)

    # -- between steps

    def tend(self, now: float, *, is_idle: bool) -> None:
        """Put in place what was read, have written what is due: a bounded time."""
        for fetch in self._live:
            if fetch.is_over:
                self._drop(fetch)
        self._live = [fetch for fetch in self._live if not fetch.is_over]
        times = self.times
        end = time.monotonic() + (times.idle_copy_s if is_idle else times.copy_s)
        for fetch in self._live:
            while fetch.is_urgent and fetch.pieces and time.monotonic() < end:
                self._install(fetch)
        self._spill.tend(now, is_idle=is_idle)

    def _install(self, fetch: Fetch) -> None:
        piece = self._reader.take(fetch)
        if piece is None:
            return
        raw, memory = fetch.sought.raw, self._memory
        if isinstance(piece, BlocksPiece):
            n = install_blocks(memory, fetch.salt, raw, piece, fetch.pins)
            end = piece.first + len(piece.data)
            self._n_blocks += max(0, n // BLOCK_CELLS - piece.first)
            if not memory.pools.has_rows:
                fetch.n_installed = max(fetch.n_installed, n)
            if n < end * BLOCK_CELLS:
                self._drop(fetch)
                fetch.is_broken = True
        elif install_state(memory, fetch.salt, raw, piece):
            self._n_states += 1
            fetch.n_installed = piece.position

    def _drop(self, fetch: Fetch) -> None:
        if not fetch.is_over:
            self._reader.cancel(fetch)
        unpin(self._memory, fetch.pins)

    def _unpin(self) -> None:
        for fetch in self._live:
            unpin(self._memory, fetch.pins)

    def forget(self, salt: str, tokens: I32) -> None:
        """Remove from the disk, too, what memory has been made to forget."""
        self._spill.forget(salt, tokens.tobytes())

    # -- the end

    def close(self, *, is_sound: bool) -> None:
        """End the threads; what is not written yet gets ``times.flush_s``. Not ``is_sound``: memory
        is not to be trusted, and nothing more is written."""
        self._reader.close()
        self._unpin()
        if is_sound:
            self._spill.flush()
        self._writer.close(self.times.flush_s if is_sound else 0.0)
        self._memory.pools.spill = None

    def settle(self, timeout_s: float = 30.0) -> bool:
        """Wait until what has been queued for writing is written. For tests and tools; any
        thread."""
        return self._writer.wait(timeout_s)

    def stats(self) -> DiskStats:
        """Any thread."""
        store, writer = self.store, self._writer
        return DiskStats(
            max_bytes=store.max_bytes,
            n_bytes=store.n_bytes,
            n_files=store.n_files,
            n_evicted=store.n_evicted,
            n_written_blocks=writer.n_blocks,
            n_written_states=writer.n_states,
            n_written_bytes=writer.n_bytes,
            n_read_blocks=self._n_blocks,
            n_read_states=self._n_states,
            n_read_bytes=self._reader.n_read_bytes,
            n_lost=self._spill.n_lost,
            faults=dict(store.faults),
        )
