"""What is worth writing to disk, and when. Engine thread; nothing is copied here but what would be
lost otherwise.

A sequence that ends leaves a path in the prefix tree. It is written when nothing runs, when it has
waited long enough that its next turn would have come, or when memory runs short. So a conversation
in full swing is not written at each of its turns.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from slotmux.runtime.memory.disk.chain import digests_of, node_digest, owner_of, state_key
from slotmux.runtime.memory.disk.index import StoredBlocks, StoredState
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.memory.disk.writer import (
    BlocksJob,
    ForgetJob,
    StateJob,
    UseJob,
    Writer,
    state_sections,
)
from slotmux.runtime.memory.match import known_path
from slotmux.runtime.memory.pools import Pools
from slotmux.runtime.memory.prefix_tree import BLOCK_BYTES, Checkpoint, Kind, Node
from slotmux.runtime.ubatch import BLOCK_CELLS

_FILE_BYTES = 4 * 2**20  # of blocks in one file, about
_FILE_BLOCKS = 64
_COPY_RATE = 4e9  # bytes a second, about


@dataclass(slots=True)
class Times:
    """What the tier may take of the engine's time, and when it does; seconds."""

    ripe_s: float = 5.0  # after which a path is written though requests run
    ripe_idle_s: float = 0.5  # where none does
    copy_s: float = 0.002  # of a step: putting in place, and saving what is evicted unwritten
    idle_copy_s: float = 0.02  # of a step in which nothing else would be done
    flush_s: float = 5.0  # at the end, for what is not written yet


class Spill:
    """Of one memory, whose hooks (memory/pools.py) are the first methods and ``unpin``."""

    def __init__(
        self,
        pools: Pools,
        store: Store,
        writer: Writer,
        times: Times,
        unpin: Callable[[], None],
    ) -> None:
        self.unpin = unpin
        self._times = times
        self._pools = pools
        self._store = store
        self._writer = writer
        self._waiting: deque[tuple[float, Node]] = deque()
        self._copy_s = 0.0  # spent in this step
        self.n_lost = 0  # blocks and states that were evicted before they were written
        block_bytes = pools.blocks.block_bytes if pools.has_blocks else 0
        self._n_together = max(1, min(_FILE_BLOCKS, _FILE_BYTES // max(1, block_bytes)))

    # -- hooks of memory

    def left(self, node: Node) -> None:
        """A sequence has ended, and what it leaves ends with ``node``."""
        self._waiting.append((time.monotonic(), node))

    def before_drop(self, node: Node) -> None:
        """A leaf is evicted: copy its block, if it was not written and there is time."""
        if not node.is_full or node.block < 0 or not self._store.may_write:
            return
        digest = node_digest(node)
        if digest in self._store.index.blocks:
            return
        if self._copy_s >= self._times.copy_s:
            self.n_lost += 1
            return
        begin = time.monotonic()
        data = self._pools.blocks.read([node.block])
        self._copy_s += time.monotonic() - begin
        stored = StoredBlocks("", 0, owner_of(node.salt), (digest,))
        self._writer.add(BlocksJob(stored, (), (), data))

    def before_drop_state(self, state: Checkpoint) -> None:
        """A state is evicted: likewise, if it is no step on the way to another."""
        is_passed = state.n_next and not state.is_fork and not state.n_hits
        if is_passed or not self._store.may_write or state.position < BLOCK_CELLS:
            return
        if self._store.index.has_state(*state_key(state)):
            return
        copy_s = self._pools.rows.row_bytes / _COPY_RATE
        if self._copy_s + copy_s > self._times.copy_s:
            self.n_lost += 1
            return
        self._copy_s += copy_s
        first = state.node
        while first.parent is not None and first.parent.parent is not None:
            first = first.parent
        job = self._state_job(first, state)
        data = state_sections(self._pools, job.row, job.tail)
        self._writer.add(replace(job, data=data))

    # -- between steps

    def tend(self, now: float, *, is_idle: bool) -> None:
        """Have the writer write what is due."""
        self._copy_s = 0.0
        times = self._times
        ripe_s = times.ripe_idle_s if is_idle else times.ripe_s
        while self._waiting:
            left, node = self._waiting[0]
            if now - left < ripe_s and not self._is_short:
                return
            self._waiting.popleft()
            self._write(node)
            if time.monotonic() - now > times.copy_s and not is_idle:
                return

    def flush(self) -> None:
        """Have the writer write everything, what was left last first."""
        while self._waiting:
            self._write(self._waiting.pop()[1])

    def forget(self, salt: str, raw: bytes) -> None:
        """Have what begins like the int32 tokens ``raw`` removed, as far as memory has forgotten
        it."""
        digests = digests_of(salt, raw)
        n_known = len(known_path(self._pools.tree, salt, raw))
        rest = raw[n_known * BLOCK_BYTES : (n_known + 1) * BLOCK_BYTES]
        self._writer.add(ForgetJob(tuple(digests[n_known + 1 :]), digests[n_known], rest))

    @property
    def _is_short(self) -> bool:
        """Whether what is cached will be evicted soon."""
        pools = self._pools
        if pools.has_blocks and pools.blocks.n_free * 8 < pools.blocks.n_blocks:
            return True
        return pools.has_rows and not pools.has_room_for_row

    def _is_known(self, key: bytes | tuple[bytes, bytes]) -> bool:
        """Whether it is on disk, or will be."""
        if key in self._writer.queued:
            return True
        if isinstance(key, bytes):
            return key in self._store.index.blocks
        return self._store.index.has_state(*key)

    def _write(self, node: Node) -> None:
        path = _attached_path(node)
        if not path:
            return
        if self._pools.has_blocks:
            self._write_blocks([node for node in path if node.is_full])
        states = [s for node in path for _, s in sorted(node.checkpoints.items())]
        for state in _worth_writing(states):
            self._write_state(path[0], state)
        self._note_use(path, states)

    def _write_blocks(self, path: list[Node]) -> None:
        """Those that are not on disk, in files of consecutive ones."""
        run: list[Node] = []
        for node in path:
            if self._is_known(node_digest(node)):
                self._write_run(run)
                run = []
                continue
            run.append(node)
            if len(run) == self._n_together:
                self._write_run(run)
                run = []
        self._write_run(run)

    def _write_run(self, run: list[Node]) -> None:
        if not run:
            return
        digests = tuple(node_digest(node) for node in run)
        blocks = tuple(node.block for node in run)
        turns = tuple(self._pools.block_turns[block] for block in blocks)
        stored = StoredBlocks("", 0, owner_of(run[0].salt), digests)
        self._writer.add(BlocksJob(stored, blocks, turns))

    def _write_state(self, first: Node, state: Checkpoint) -> None:
        if first.is_full and not self._is_known(state_key(state)):
            self._writer.add(self._state_job(first, state))

    def _state_job(self, first: Node, state: Checkpoint) -> StateJob:
        pools, node = self._pools, state.node
        floor, rest = state_key(state)
        stored = StoredState(
            "", 0, owner_of(node.salt), floor, rest, node_digest(first), state.position,
            pools.rows.pending[state.row], state.kind.value,
        )  # fmt: skip
        tail = node.block if rest and pools.has_blocks else -1
        tail_turn = pools.block_turns[tail] if tail >= 0 else 0
        return StateJob(stored, state.row, pools.row_turns[state.row], tail, tail_turn)

    def _note_use(self, path: list[Node], states: list[Checkpoint]) -> None:
        digests = [node_digest(node) for node in path if node.is_full]
        overtaken = [state_key(s) for s in states if s.is_left_behind and not s.is_fork]
        self._writer.add(UseJob(tuple(digests), tuple(overtaken)))


def _attached_path(node: Node) -> list[Node]:
    """From the first block to a node; if that was evicted meanwhile, to the last that was not."""
    path: list[Node] = []
    at: Node | None = node
    while at is not None and at.parent is not None:
        siblings = at.parent.children if at.is_full else at.parent.partials
        if siblings.get(at.key) is not at:
            path.clear()
        else:
            path.append(at)
        at = at.parent
    path.reverse()
    return path


def _worth_writing(states: list[Checkpoint]) -> list[Checkpoint]:
    """Of the states along a path: forks, those that somebody came back to, the last of all, and the
    last at which a prompt ended, since templates may write answers otherwise in the next turn."""
    last_prompt = next((s for s in reversed(states) if s.kind is Kind.PROMPT), None)
    return [s for s in states if s is states[-1] or s is last_prompt or s.is_fork or s.n_hits]
