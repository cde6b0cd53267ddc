"""One budget of bytes over cells and states, and the index of both.

Blocks and rows lie in address space of their own; what the one kind does not use, the other may:
pages are taken when a place is first written and given back when the other kind needs them.
"""

from __future__ import annotations

from slotmux.runtime.memory.block_pool import BlockPool
from slotmux.runtime.memory.prefix_tree import NODE_BYTES, ROOT_BYTES, STATE_BYTES, PrefixTree
from slotmux.runtime.memory.row_pool import RowPool


class Budget:
    """Which blocks and rows may have memory. Engine thread only.

    ``cache_bytes`` beside ``n_ready`` blocks and a row for each slot; None: all there are. A row
    for each slot is set aside always, so that a slot never waits for one.
    """

    __slots__ = (
        "_block_bytes",
        "_blocks",
        "_n_ready",
        "_n_slots",
        "_row_bytes",
        "_rows",
        "_tree",
        "limit",
    )

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
        self._block_bytes, self._row_bytes = blocks.block_bytes, rows.row_bytes + STATE_BYTES
        self._n_ready = min(n_ready, blocks.n_blocks)
        self.limit: int | None = None
        if cache_bytes is not None:
            n_ready = -(-n_ready // blocks.n_segment) * blocks.n_segment
            salts = n_slots * ROOT_BYTES
            self.limit = self._bytes(n_ready, self._n_slots) + salts + cache_bytes

    def _bytes(self, n_blocks: int, n_rows: int) -> int:
        """What so many blocks and rows with memory take, whatever is in them, and the index. Each
        block is in the index, or could be; many salts may take more, or paths without blocks."""
        n = n_blocks * self._block_bytes + max(self._n_slots, n_rows) * self._row_bytes
        return n + max(self._tree.n_bytes, n_blocks * NODE_BYTES)

    def _fits(self, n_blocks: int, n_rows: int) -> bool:
        return self.limit is None or self._bytes(n_blocks, n_rows) <= self.limit

    @property
    def n_bytes(self) -> int:
        """Memory of blocks, rows and the index."""
        return self._bytes(self._blocks.n_present, self._rows.n_present)

    @property
    def is_passed(self) -> bool:
        """More is taken than may be."""
        return self.limit is not None and self.n_bytes > self.limit

    @property
    def n_most_blocks(self) -> int:
        """Blocks that running sequences can have beside a row for each slot, nothing cached."""
        blocks = self._blocks
        if self.limit is None or not blocks.n_blocks:
            return blocks.n_blocks
        left, size = self.limit - self._n_slots * self._row_bytes, blocks.n_segment
        n = left // ((self._block_bytes + NODE_BYTES) * size)
        n = min(n, (left - self._tree.n_bytes) // (self._block_bytes * size))
        # What slots were promised is theirs, whatever the index of what is kept takes meanwhile.
        return max(self._n_ready, min(n * size, blocks.n_blocks))

    def bring_blocks(self) -> bool:
        """Give blocks memory, free rows losing theirs as needed; False if that cannot be."""
        blocks, rows = self._blocks, self._rows
        if not blocks.can_bring:
            return False
        n = blocks.n_present + blocks.n_segment
        while not self._fits(n, rows.n_present) and self._can_spare_row:
            rows.send_away()
        if not self._fits(n, rows.n_present):
            return False
        blocks.bring()
        return True

    @property
    def can_bring_row(self) -> bool:
        """Whether ``bring_row`` would succeed."""
        return self._rows.can_bring and (
            self._rows.n_present < self._n_slots or self._has_room_for_rows(1)
        )

    def _has_room_for_rows(self, n: int) -> bool:
        """Whether so many more fit if free blocks lose their memory."""
        blocks = self._blocks
        n_least = blocks.n_present - blocks.n_spare * blocks.n_segment
        return self._fits(n_least, self._rows.n_present + n)

    def bring_row(self, *, is_ahead: bool = False) -> bool:
        """Give a row memory, free blocks losing theirs as needed; False if that cannot be.
        ``is_ahead``: it will be taken soon, but not at once."""
        blocks, rows = self._blocks, self._rows
        if not self.can_bring_row:
            return False
        while rows.n_present >= self._n_slots and not self._fits(
            blocks.n_present, rows.n_present + 1
        ):
            blocks.send_away()
        rows.bring(is_ahead=is_ahead)
        return True

    def bring_rows_ahead(self) -> None:
        """Give rows their memory before they are taken, as many as there are slots, if there is
        room beyond them: the system takes its time, and all slots may want one in one step."""
        rows = self._rows
        while rows.n_free < self._n_slots and rows.can_bring and self._has_room_for_rows(2):
            self.bring_row(is_ahead=True)

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
        """Raise AssertionError if more has memory than the budget lets, beside the index."""
        index = max(0, self._tree.n_bytes - self._blocks.n_present * NODE_BYTES)
        assert self.limit is None or self.n_bytes - index <= self.limit, "the budget is passed"
