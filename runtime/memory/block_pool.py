"""The blocks of the KV cache: who holds each, which are free, which are only cached."""

from __future__ import annotations

from collections.abc import Sequence

from slotmux.runtime.interfaces import Bytes, KVStorage
from slotmux.runtime.memory.eviction import FairLru


class BlockPool:
    """Reference counts of blocks. A block is free, held by sequences (``refs`` > 0), or cached.

    ``refs`` counts sequences only. A cached block belongs to the prefix tree: when its last
    sequence leaves it waits in LRU order instead of becoming free. Engine thread only.
    """

    __slots__ = ("_free", "_idle", "_poison", "_storage", "n_blocks", "owner", "refs")

    def __init__(self, storage: KVStorage, *, poison: bool) -> None:
        self._storage = storage
        self._poison = poison
        self.n_blocks = storage.n_blocks
        self.refs = [0] * self.n_blocks
        self.owner: list[str | None] = [None] * self.n_blocks  # the salt, where cached
        self._free = list(range(self.n_blocks - 1, -1, -1))
        self._idle = FairLru()
        if poison:
            for block in self._free:
                storage.fill_nan(block)

    @property
    def n_free(self) -> int:
        return len(self._free)

    @property
    def n_idle(self) -> int:
        """Cached blocks that no sequence holds; each can be had by eviction."""
        return len(self._idle)

    @property
    def n_available(self) -> int:
        return len(self._free) + len(self._idle)

    def take(self) -> int:
        """A free block, held once. There must be one."""
        block = self._free.pop()
        self.refs[block] = 1
        return block

    def retain(self, block: int) -> None:
        """One more sequence holds a block that is held or cached."""
        n = self.refs[block]
        owner = self.owner[block]
        if n == 0:
            assert owner is not None, "a free block cannot be shared"
            self._idle.remove(owner, block)
        self.refs[block] = n + 1

    def release(self, block: int) -> None:
        """One sequence less holds the block; the last one frees it unless it is cached."""
        n = self.refs[block] - 1
        assert n >= 0, "block released twice"
        self.refs[block] = n
        if n == 0:
            owner = self.owner[block]
            if owner is None:
                self._give_back(block)
            else:
                self._idle.add(owner, block)

    def is_private(self, block: int) -> bool:
        """Whether its one holder may write it."""
        return self.refs[block] == 1 and self.owner[block] is None

    def cache(self, block: int, owner: str) -> None:
        """The prefix tree adopts a held block."""
        assert self.refs[block] > 0
        assert self.owner[block] is None
        self.owner[block] = owner

    def uncache(self, block: int) -> None:
        """The prefix tree lets go; free unless a sequence holds it."""
        owner = self.owner[block]
        assert owner is not None
        self.owner[block] = None
        if self.refs[block] == 0:
            self._idle.remove(owner, block)
            self._give_back(block)

    def touch(self, block: int) -> None:
        """A cached block was read from."""
        owner = self.owner[block]
        if owner is not None and self.refs[block] == 0:
            self._idle.touch(owner, block)

    def oldest_idle(self) -> int:
        """The cached block to evict next, or -1."""
        return self._idle.oldest()

    @property
    def block_bytes(self) -> int:
        return self._storage.block_bytes

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
        assert {b for b in range(self.n_blocks) if self.owner[b] is not None} == cached
        idle = self._idle.keys()
        assert len(set(idle)) == len(idle) == len(self._idle)
        assert set(idle) == {b for b in cached if refs[b] == 0}, "idle blocks"
        free = set(self._free)
        assert len(free) == len(self._free), "block freed twice"
        assert free == {b for b in range(self.n_blocks) if refs[b] == 0 and b not in cached}

    def _give_back(self, block: int) -> None:
        if self._poison:
            self._storage.fill_nan(block)
        self._free.append(block)
