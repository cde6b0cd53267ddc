"""One budget of bytes over cells and states, and the index of both.

Blocks and rows lie in address space of their own; what the one kind does not use, the other may:
pages are taken when a place is first written and given back when the other kind needs them.
"""

from __future__ import annotations

from slotmux.runtime.memory.block_pool import BlockPool
from slotmux.runtime.memory.prefix_tree import NODE_BYTES, STATE_BYTES, PrefixTree
from slotmux.runtime.memory.row_pool import RowPool


class Budget:
    """Which blocks and rows may have memory. Engine thread only.

    ``cache_bytes`` beside ``n_ready`` blocks and a row for each slot; None: all there are. A row
    for each slot is set aside always, so that a slot never waits for one.
    """

    __slots__ = ("_blocks", "_n_slots", "_row", "_rows", "_segment", "_tree", "limit")

    def __init__(
        self,
        blocks: BlockPool,
        rows: RowPool,
        tree: PrefixTree,
        n_ready: int,
        n_slots: int,
        cache_bytes: int | None,
    ) -> None:
        self._blocks, self._rows, self._tree = blocks, rows, tree
        self._n_slots = n_slots if rows.n_rows else 0
        # A block of each is in the index, or could be.
        self._segment = (blocks.block_bytes + NODE_BYTES) * blocks.n_segment
        self._row = rows.row_bytes + STATE_BYTES
        self.limit: int | None = None
        if cache_bytes is not None:
            n_segments = -(-n_ready // blocks.n_segment)
            needed = n_segments * self._segment + self._n_slots * self._row
            self.limit = needed + cache_bytes

    @property
    def n_bytes(self) -> int:
        """Memory of blocks and rows, whatever is in them, and of the index."""
        blocks = self._blocks
        n = blocks.n_present // blocks.n_segment * self._segment
        return n + max(self._n_slots, self._rows.n_present) * self._row + self._further_index

    @property
    def _further_index(self) -> int:
        """What the index takes beyond a node for each block: many salts, or no blocks at all."""
        return max(0, self._tree.n_bytes - self._blocks.n_present * NODE_BYTES)

    @property
    def n_most_blocks(self) -> int:
        """Blocks that running sequences can have beside a row for each slot, nothing cached."""
        blocks = self._blocks
        if self.limit is None:
            return blocks.n_blocks
        left = self.limit - self._n_slots * self._row - self._further_index
        return min(left // self._segment * blocks.n_segment, blocks.n_blocks)

    @property
    def is_passed(self) -> bool:
        """More is taken than may be."""
        return self.limit is not None and self.n_bytes > self.limit

    def _has_room(self, n_bytes: int) -> bool:
        return self.limit is None or self.n_bytes + n_bytes <= self.limit

    def bring_blocks(self) -> bool:
        """Give blocks memory, free rows losing theirs as needed; False if that cannot be."""
        if not self._blocks.can_bring:
            return False
        while not self._has_room(self._segment) and self._can_spare_row:
            self._rows.send_away()
        if not self._has_room(self._segment):
            return False
        self._blocks.bring()
        return True

    @property
    def can_bring_row(self) -> bool:
        """Whether ``bring_row`` would succeed."""
        if not self._rows.can_bring:
            return False
        n_spare = self._blocks.n_spare * self._segment
        return self._rows.n_present < self._n_slots or self._has_room(self._row - n_spare)

    def bring_row(self) -> bool:
        """Give a row memory, free blocks losing theirs as needed; False if that cannot be."""
        if not self.can_bring_row:
            return False
        if self._rows.n_present >= self._n_slots:
            while not self._has_room(self._row):
                self._blocks.send_away()
        self._rows.bring()
        return True

    def shrink(self) -> bool:
        """Take the memory of a free row or of free blocks; False if there is none to take."""
        if self._can_spare_row:
            self._rows.send_away()
        elif self._rows.n_rows and self._blocks.n_spare:
            self._blocks.send_away()
        else:
            return False
        return True

    @property
    def _can_spare_row(self) -> bool:
        return self._rows.n_free > 0 and self._rows.n_present > self._n_slots

    def check_integrity(self) -> None:
        """Raise AssertionError if the budget is passed."""
        assert not self.is_passed or self._further_index, "more memory than the budget"
