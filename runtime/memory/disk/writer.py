"""The thread that writes what memory holds to disk. The engine thread copies nothing for it: what
is cached is not written to until the tree lets go of it, and each time it does so is counted. So
this thread copies, and looks whether the count is still the same."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.disk.index import Stored, StoredBlocks, StoredState
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.memory.pools import Pools

log = logging.getLogger(__name__)
Sections = list[tuple[str, Bytes]]
_IDLE_S = 30.0


@dataclass(frozen=True, slots=True)
class BlocksJob:
    """Blocks of a path that are to be written; ``turns``: how often the tree had let go of each.
    ``data``: their content, where they may be gone by then."""

    stored: StoredBlocks
    blocks: tuple[int, ...]
    turns: tuple[int, ...]
    data: Bytes | None = None


@dataclass(frozen=True, slots=True)
class StateJob:
    """A kept row, and the unfinished block it stands in (-1: none); as with blocks."""

    stored: StoredState
    row: int
    turn: int
    tail: int
    tail_turn: int
    data: Sections | None = None


@dataclass(frozen=True, slots=True)
class UseJob:
    """A path was used: its whole blocks, the deepest last. ``overtaken``: floors and rests of its
    states that a deeper one has overtaken."""

    digests: tuple[bytes, ...]
    overtaken: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class ForgetJob:
    """Prefixes, by their digests, whose blocks and states are to be removed; of ``floor`` only the
    states whose further tokens begin ``rest``."""

    digests: tuple[bytes, ...]
    floor: bytes
    rest: bytes


Job = BlocksJob | StateJob | UseJob | ForgetJob


class Writer:
    """Does jobs in order. ``queued``: digests of blocks and (floor, rest) of states that wait."""

    def __init__(self, store: Store, pools: Pools) -> None:
        self._store = store
        self._pools = pools
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_busy = True  # until the store is open
        self._is_closed = False
        self._deadline = float("inf")
        self.queued: set[bytes | tuple[bytes, bytes]] = set()
        self.n_blocks = self.n_states = self.n_bytes = 0  # written
        self._thread = threading.Thread(target=self._run, name="slotmux-spill", daemon=True)
        self._thread.start()

    # -- for the engine thread

    def add(self, job: Job) -> None:
        """Queue a job."""
        self.queued.update(keys_of(job))
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Finish what is queued as far as time allows, and end."""
        with self._changed:
            self._is_closed = True
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join(timeout_s + 1.0)

    def wait(self, timeout_s: float) -> bool:
        """Until nothing is queued; False if that takes too long. Any thread."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._jobs or self._is_busy), timeout=timeout_s
            )

    # -- the thread

    def _run(self) -> None:
        self._attempt(self._store.open)
        while (job := self._next()) is not None:
            keys = keys_of(job)
            self._attempt(partial(self._do, job))
            self.queued.difference_update(keys)
        self._store.close()

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # a prefix that is not kept, no more
            log.exception("writing the prefix cache to disk failed")
            self._store.faults["internal"] += 1

    def _next(self) -> Job | None:
        """The next job, waiting for one; None: the end."""
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                if not self._jobs and not self._is_closed:
                    self._changed.wait(_IDLE_S)
                is_late = time.monotonic() > self._deadline
                if self._is_closed and (is_late or not self._jobs):
                    return None
                if self._jobs:
                    self._is_busy = True
                    return self._jobs.popleft()
            self._attempt(self._store.refresh)

    def _do(self, job: Job) -> None:
        if isinstance(job, BlocksJob):
            self._write_blocks(job)
        elif isinstance(job, StateJob):
            self._write_state(job)
        elif isinstance(job, UseJob):
            self._use(job)
        else:
            self._forget(job)

    def _write_blocks(self, job: BlocksJob) -> None:
        if not self._store.may_write:
            return
        stored, known = job.stored, self._store.index.blocks
        if all(digest in known for digest in stored.digests):
            return
        data = job.data
        if data is None:
            data = self._pools.blocks.read(job.blocks)
            turns = self._pools.block_turns
            whole = [turns[b] == turn for b, turn in zip(job.blocks, job.turns, strict=True)]
            data = data[: whole.index(False) if False in whole else len(whole)]
            stored.digests = stored.digests[: len(data)]
        if not len(data):
            return
        if self._store.put(stored, [("blocks", data)]):
            self.n_blocks += len(data)
            self.n_bytes += stored.n_bytes

    def _write_state(self, job: StateJob) -> None:
        stored, pools = job.stored, self._pools
        if not self._store.may_write or self._store.index.has_state(stored.floor, stored.rest):
            return
        sections = job.data
        if sections is None:
            sections = state_sections(pools, job.row, job.tail)
            is_tail_whole = job.tail < 0 or pools.block_turns[job.tail] == job.tail_turn
            if pools.row_turns[job.row] != job.turn or not is_tail_whole:
                return
        if self._store.put(stored, sections):
            self.n_states += 1
            self.n_bytes += stored.n_bytes

    def _use(self, job: UseJob) -> None:
        index = self._store.index
        states: list[Stored] = [s for d in job.digests for s in index.states.get(d, ())]
        found = (index.blocks.get(digest) for digest in reversed(job.digests))
        # What a longer prefix needs goes first.
        blocks: list[Stored] = [place[0] for place in found if place is not None]
        self._store.touch(dict.fromkeys(states + blocks))
        for floor, rest in job.overtaken:
            for state in index.states.get(floor, ()):
                if state.rest == rest:
                    self._store.demote(state)

    def _forget(self, job: ForgetJob) -> None:
        index = self._store.index
        for digest in job.digests:
            for state in index.states.get(digest, ()):
                self._store.drop(state)
            if (found := index.blocks.get(digest)) is not None:
                self._store.drop(found[0])
        for state in index.states.get(job.floor, ()):
            if state.rest and job.rest.startswith(state.rest):
                self._store.drop(state)


def state_sections(pools: Pools, row: int, tail: int) -> Sections:
    """A copy of a row and of the block it stands in. Any thread."""
    sections = [("row", pools.rows.read(row))]
    if tail >= 0:
        sections.append(("tail", pools.blocks.read([tail])))
    return sections


def keys_of(job: Job) -> list[bytes | tuple[bytes, bytes]]:
    """What a job will have written."""
    if isinstance(job, BlocksJob):
        return list(job.stored.digests)
    if isinstance(job, StateJob):
        return [(job.stored.floor, job.stored.rest)]
    return []
