"""The blocks of the KV cache: who holds each, which are free, which are only cached."""

from __future__ import annotations

from collections.abc import Sequence

from slotmux.runtime.interfaces import Bytes, KVStorage
from slotmux.runtime.memory.segments import Segments
from slotmux.runtime.memory.worth import Worths


class BlockPool:
    """Reference counts of blocks. A block is free, held by sequences (``refs`` > 0), or cached.

    ``refs`` counts sequences only. A cached block belongs to the prefix tree: when its last
    sequence leaves it waits to be given up by worth instead of becoming free. Engine thread only.

    ``n_ready``: blocks that have memory from the start; others get it by ``bring``.
    """

    __slots__ = (
        "_free",
        "_n_hits",
        "_poison",
        "_storage",
        "_worths",
        "block_bytes",
        "is_needed",
        "n_blocks",
        "n_held",
        "n_idle",
        "owner",
        "refs",
    )

    def __init__(
        self, storage: KVStorage, worths: Worths, n_ready: int | None, *, poison: bool
    ) -> None:
        self._storage = storage
        self._worths = worths
        self._poison = poison
        self.n_blocks = storage.n_blocks
        self.block_bytes = storage.block_bytes if self.n_blocks else 0
        self.refs = [0] * self.n_blocks
        self.owner: list[str | None] = [None] * self.n_blocks  # the salt, where cached
        self.is_needed = [False] * self.n_blocks  # by a kept state, where cached
        self._n_hits = [0] * self.n_blocks  # sequences that began with it
        self.n_held = 0
        self.n_idle = 0  # cached and held by no sequence: each can be had, states given up first
        n_ready = self.n_blocks if n_ready is None else n_ready
        self._free = Segments(self.n_blocks, n_ready, storage.n_segment)
        if poison:
            for block in range(self._free.n_present):
                storage.fill_nan(block)

    @property
    def n_free(self) -> int:
        return self._free.n_free

    @property
    def n_present(self) -> int:
        """Blocks that have memory."""
        return self._free.n_present

    @property
    def n_segment(self) -> int:
        """Blocks whose memory comes and goes together."""
        return self._free.size

    @property
    def can_bring(self) -> bool:
        """Whether there are blocks without memory."""
        return self._free.n_absent > 0

    @property
    def n_spare(self) -> int:
        """Segments that are free altogether."""
        return self._free.n_whole

    def bring(self) -> None:
        """Give a segment memory: its blocks are free."""
        blocks = self._free.bring()
        if self._poison:
            for block in blocks:
                self._storage.fill_nan(block)

    def send_away(self) -> None:
        """Give the memory of a free segment back to the system."""
        self._storage.give_back_blocks(self._free.send_away(), self._free.size)

    def take(self) -> int:
        """A free block, held once. There must be one."""
        block = self._free.take()
        self.refs[block] = 1
        self.n_held += 1
        return block

    def retain(self, block: int) -> None:
        """One more sequence holds a block that is held or cached."""
        n = self.refs[block]
        if n == 0:
            self._leave_idle(block)
            self.n_held += 1
        self.refs[block] = n + 1

    def on_hit(self, block: int) -> None:
        """A sequence begins with it."""
        self._n_hits[block] += 1

    def release(self, block: int) -> None:
        """One sequence less holds the block; the last one frees it unless it is cached."""
        n = self.refs[block] - 1
        assert n >= 0, "block released twice"
        self.refs[block] = n
        if n == 0:
            self.n_held -= 1
            owner = self.owner[block]
            if owner is None:
                self._give_back(block)
            else:
                self.n_idle += 1
                needed = self.is_needed[block]
                self._worths.add_block(block, owner, self._n_hits[block], is_needed=needed)

    def is_private(self, block: int) -> bool:
        """Whether its one holder may write it."""
        return self.refs[block] == 1 and self.owner[block] is None

    def cache(self, block: int, owner: str) -> None:
        """The prefix tree adopts a held block."""
        assert self.refs[block] > 0
        assert self.owner[block] is None
        self.owner[block] = owner
        self._n_hits[block] = 0

    def uncache(self, block: int) -> None:
        """The prefix tree lets go; free unless a sequence holds it."""
        assert self.owner[block] is not None
        assert not self.is_needed[block]
        if self.refs[block] == 0:
            self._leave_idle(block)
            self.owner[block] = None
            self._give_back(block)
        self.owner[block] = None

    def need(self, block: int, *, is_needed: bool) -> None:
        """Whether a kept state needs a cached block has changed."""
        self.is_needed[block] = is_needed
        owner = self.owner[block]
        assert owner is not None
        if self.refs[block] == 0:
            self._worths.on_needed(block, owner, self._n_hits[block], is_needed=is_needed)

    def touch(self, block: int) -> None:
        """A cached block was read from."""
        owner = self.owner[block]
        may_go = not (self.is_needed[block] and self._worths.states_lead)
        if owner is not None and self.refs[block] == 0 and may_go:
            self._worths.touch_block(block, owner, self._n_hits[block])

    def read(self, blocks: Sequence[int]) -> Bytes:
        """A copy [n, block_bytes]. Any thread."""
        return self._storage.read_blocks(blocks)

    def write(self, blocks: Sequence[int], data: Bytes) -> None:
        self._storage.write_blocks(blocks, data)

    def copy(self, src: int, dst: int) -> None:
        self._storage.copy_block(src, dst)

    def check_integrity(self, refs: list[int], cached: set[int]) -> None:
        """Raise AssertionError unless the counts equal those seen by the caller."""
        assert self.refs == refs, "reference counts"
        assert self.n_held == sum(n > 0 for n in refs)
        assert {b for b in range(self.n_blocks) if self.owner[b] is not None} == cached
        idle = {b for b in cached if refs[b] == 0}
        assert self.n_idle == len(idle)
        offered = self._worths.blocks()
        assert len(set(offered)) == len(offered)
        may_go = {b for b in idle if not (self.is_needed[b] and self._worths.states_lead)}
        assert set(offered) == may_go, "idle blocks"
        assert not any(self.is_needed[b] for b in range(self.n_blocks) if b not in cached)
        self._free.check_integrity({b for b in range(self.n_blocks) if refs[b] or b in cached})

    def _leave_idle(self, block: int) -> None:
        owner = self.owner[block]
        assert owner is not None, "a free block cannot be shared"
        self.n_idle -= 1
        self._worths.remove_block(block, owner, is_needed=self.is_needed[block])

    def _give_back(self, block: int) -> None:
        if self._poison:
            self._storage.fill_nan(block)
        self._free.give_back(block)
