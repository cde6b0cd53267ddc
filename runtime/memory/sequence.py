"""The memory of one running sequence: its block table and its recurrent row, moved as one.

The order of a step is reserve -> forward -> commit (or rollback, if nothing was computed).
"""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.indexing import index_blocks, keep_checkpoint, leave_prefix
from slotmux.runtime.memory.match import NO_MATCH, Match
from slotmux.runtime.memory.pools import Pools
from slotmux.runtime.memory.prefix_tree import Checkpoint, Kind, Node
from slotmux.runtime.ubatch import BLOCK_CELLS, I32, Ubatch

NEVER_FULL = 1 << 62


@dataclass(frozen=True, slots=True)
class SavedState:
    """A row as bytes: the state after ``position`` tokens, ``n_pending`` of them still to be shown
    to it."""

    position: int
    n_pending: int
    data: Bytes


class Sequence:
    """One per slot, reused for request after request. Engine thread only.

    ``n_computed`` tokens of ``history`` are in memory; ``n_reserved`` more may be written by the
    forward under way and are provisional until committed; the last ``n_drafts`` of them are drafts.
    ``node`` is the deepest full block that the prefix tree knows (None: this sequence neither uses
    nor feeds the cache).
    """

    __slots__ = (
        "_fresh",
        "_is_fresh",
        "_pending",
        "_rows",
        "history",
        "is_open",
        "kept",
        "last_checkpoint",
        "n_computed",
        "n_drafts",
        "n_goal",
        "n_path",
        "n_reserved",
        "n_writable",
        "node",
        "pools",
        "row",
        "salt",
        "slot",
        "table",
        "table_row",
    )

    def __init__(self, slot: int, pools: Pools, ubatch: Ubatch, history: I32) -> None:
        self.slot = slot
        self.history = history
        self.pools = pools
        self.table_row = ubatch.block_tables[slot]
        self._rows = ubatch.state_row
        self._fresh = ubatch.state_fresh
        self._pending = ubatch.state_pending
        self._reset()

    def _reset(self) -> None:
        self.table: list[int] = []
        self.n_computed = 0
        self.n_reserved = 0
        self.n_drafts = 0
        self.n_writable = 0  # positions below this can be written without looking
        self.n_goal = 0  # tokens known at admission, for the memory promised to them
        self.node: Node | None = None
        self.salt = ""
        self.row = -1
        self.last_checkpoint = 0
        self.kept: Checkpoint | None = None  # the state that it began with or kept last
        self.n_path = 0  # tokens that the tree knew when it began, whether or not with a state
        self.is_open = False
        self._is_fresh = True
        self._rows[self.slot] = -1
        self._fresh[self.slot] = 1
        self._pending[self.slot] = 0

    # -- the life of a sequence

    def open(self, salt: str | None, n_goal: int, match: Match = NO_MATCH) -> None:
        """Begin with the memory of a prefix. Needs the blocks that ``Memory.open`` checked for.

        ``salt`` None keeps the sequence out of the prefix cache.
        """
        assert not self.is_open
        pools = self.pools
        self.is_open = True
        self.n_goal = n_goal
        if pools.has_blocks:
            for node in match.nodes:
                pools.blocks.retain(node.block)
                pools.blocks.on_hit(node.block)
                self._append_block(node.block)
        if salt is not None:
            self.salt = salt
            root = pools.tree.enter(salt)
            self.node = match.nodes[-1] if match.nodes and pools.has_blocks else root
        if pools.has_rows:
            # The block whose beginning is taken stays, with its states, while room is made.
            if match.source >= 0 and pools.has_blocks:
                pools.blocks.retain(match.source)
            self._take_row(match)
            if match.source >= 0 and pools.has_blocks:
                pools.blocks.release(match.source)
        n = match.n_tokens
        if match.source >= 0 and n % BLOCK_CELLS and not self._copy_tail(match.source):
            n -= n % BLOCK_CELLS
        self.n_computed = n
        self.last_checkpoint = n
        self.n_path = match.n_path
        self.n_writable = len(self.table) * BLOCK_CELLS if pools.has_blocks else NEVER_FULL

    def adopt(self, match: Match) -> None:
        """Go on from a prefix that is longer than what this sequence has computed of it."""
        assert self.node is not None
        self.rollback()
        pools = self.pools
        n = match.n_tokens
        if n % BLOCK_CELLS and pools.has_blocks and pools.n_available <= len(match.nodes):
            return  # perhaps no block for a copy of the last one
        if pools.has_blocks:
            self._exchange(match.nodes)
            self.node = match.nodes[-1] if match.nodes else pools.tree.roots[self.salt]
        if match.checkpoint is not None:
            pools.rows.copy(match.checkpoint.row, self.row)
            pools.worths.on_hit(match.checkpoint)
            self.kept = match.checkpoint
            self._show_row(is_fresh=False)
        if match.source >= 0 and n % BLOCK_CELLS:
            is_copied = self._copy_tail(match.source)
            assert is_copied
        self.n_computed = self.last_checkpoint = n
        self.n_writable = len(self.table) * BLOCK_CELLS if pools.has_blocks else NEVER_FULL

    def _exchange(self, nodes: tuple[Node, ...]) -> None:
        """Have the blocks of ``nodes`` in the table, and none of its own."""
        blocks = self.pools.blocks
        for node in nodes:
            blocks.retain(node.block)
        for block in reversed(self.table):
            blocks.release(block)
        self.table.clear()
        for node in nodes:
            self._append_block(node.block)

    def _take_row(self, match: Match) -> None:
        pools = self.pools
        checkpoint = match.checkpoint
        row = pools.take_row(besides=checkpoint)
        if checkpoint is not None:
            if row < 0:
                row = pools.consume_checkpoint(checkpoint)
            else:
                pools.rows.copy(checkpoint.row, row)
                pools.worths.on_hit(checkpoint)
                self.kept = checkpoint
        assert row >= 0, "there is a row for every slot"
        self.row = row
        self._rows[self.slot] = row
        self._show_row(is_fresh=checkpoint is None)

    def _copy_tail(self, source: int) -> bool:
        """Give this sequence its own copy of a partly equal block; False if none can be had."""
        pools = self.pools
        blocks = pools.blocks
        blocks.retain(source)  # taking a block must not evict this one
        taken = pools.take_blocks(1)
        if taken is not None:
            blocks.copy(source, taken[0])
            blocks.release(source)
            self._append_block(taken[0])
            return True
        if blocks.refs[source] == 1 and blocks.owner[source] is not None:
            # The last block to be had is the source itself: leave the cache and use it.
            pools.drop_node(pools.tree.by_block[source])
            self._append_block(source)
            return True
        blocks.release(source)
        assert not pools.has_rows, "admission promised a block"
        return False

    def release(self, *, keep: bool = True, is_parked: bool = False) -> None:
        """End: leave a reusable prefix behind, or with ``keep`` False nothing that was computed.
        ``is_parked``: it will come back to it."""
        assert self.is_open
        pools = self.pools
        self.rollback()
        if keep and self.node is not None and self.n_computed:
            left = leave_prefix(self)
            if is_parked:
                pools.worths.on_parked(self.kept)
            if left is not None and pools.spill is not None:
                pools.spill.left(left)
        # Deepest first, so that LRU order evicts leaves before their parents.
        for block in reversed(self.table):
            pools.blocks.release(block)
        if self.row >= 0:
            pools.rows.give_back(self.row)
        if self.node is not None:
            if not keep:
                pools.forget(self.salt, self.history[: self.n_computed])
            pools.tree.leave(self.salt)
        self._reset()
        pools.settle()

    def fork(self, child: Sequence) -> None:
        """Make an open, empty sequence equal to this one: blocks are shared, the row is copied."""
        assert child.is_open
        assert not child.table
        assert not self.n_reserved
        for block in self.table:
            self.pools.blocks.retain(block)
            child._append_block(block)
        if self.row >= 0:
            self.pools.rows.copy(self.row, child.row)
            child._show_row(is_fresh=self._is_fresh)
        child.node = self.node if child.node is not None else None
        child.n_computed = self.n_computed
        child.last_checkpoint = self.n_computed
        child.kept = self.kept
        if self.pools.has_blocks:
            # The last block now has two holders: look before the next write.
            self.n_writable = child.n_writable = self.n_computed

    # -- one step

    def reserve(self, n: int, n_drafts: int = 0) -> bool:
        """Make the next ``n`` positions writable, all or nothing; False when blocks ran out.

        The last ``n_drafts`` of them are drafts, which only a sequence that has begun may have.
        Reserving again replaces what was reserved.
        """
        assert not n_drafts or (self.n_computed and n_drafts < n)
        if n < self.n_reserved:
            self.rollback()
        if self.n_computed + n > self.n_writable and not self._make_writable(self.n_computed + n):
            return False
        self.n_reserved = n
        self.n_drafts = n_drafts
        return True

    def _make_writable(self, end: int) -> bool:
        pools = self.pools
        blocks = pools.blocks
        table = self.table
        n_new = max(0, -(-end // BLOCK_CELLS) - len(table))
        shared = self._shared_blocks()
        taken = pools.take_blocks(len(shared) + n_new)
        if taken is None and self._uncache_own(shared):
            shared = self._shared_blocks()
            taken = pools.take_blocks(len(shared) + n_new)
        if taken is None:
            return False
        for i in shared:
            block = taken.pop()
            blocks.copy(table[i], block)
            blocks.release(table[i])
            table[i] = block
            self.table_row[i] = block
        for block in taken:
            self._append_block(block)
        self.n_writable = len(table) * BLOCK_CELLS
        return True

    def _shared_blocks(self) -> list[int]:
        """Places in the table, from the next position on, that are not this sequence's to write."""
        is_private = self.pools.blocks.is_private
        first = self.n_computed // BLOCK_CELLS
        return [i for i in range(first, len(self.table)) if not is_private(self.table[i])]

    def _uncache_own(self, places: list[int]) -> bool:
        """Have the cache forget blocks that only this sequence holds: what a fork of it left behind
        when it was parked, while this one still fills the block. False if there are none."""
        pools = self.pools
        pools.unpin()
        own = [self.table[i] for i in places if pools.blocks.refs[self.table[i]] == 1]
        for block in own:
            pools.drop_node(pools.tree.by_block[block])
        return bool(own)

    def commit(self, n: int) -> None:
        """The forward is done: ``n`` of the reserved tokens stay, the rest are rejected drafts.

        The row has not seen any draft: the next forward begins by applying those that stay.
        """
        n_drafts = self.n_drafts
        n_accepted = n - (self.n_reserved - n_drafts)
        assert 0 <= n_accepted <= n_drafts
        is_cut = n_accepted < n_drafts
        self.n_reserved = self.n_drafts = 0
        before = self.n_computed
        self.n_computed = before + n
        if self.row >= 0:
            self.pools.rows.pending[self.row] = n_accepted
            if self._is_fresh or self._pending.item(self.slot) != n_accepted:
                self._show_row(is_fresh=False)
        if is_cut:
            self._cut_table()
        if self.n_computed // BLOCK_CELLS != before // BLOCK_CELLS:
            index_blocks(self)

    def rollback(self) -> None:
        """Undo a reservation of which nothing was computed."""
        if self.n_reserved:
            self.n_reserved = self.n_drafts = 0
            self._cut_table()

    def load(self, n: int, blocks: Bytes, state: SavedState | None) -> bool:
        """Become ``n`` tokens long with memory that was saved: ``blocks`` hold the first ``n``
        tokens of history, ``state`` is the row after them. False when blocks ran out."""
        before = self.n_computed
        if not self.reserve(n - before):
            return False
        if self.pools.has_blocks:
            first, end = before // BLOCK_CELLS, len(self.table)
            self.pools.blocks.write(self.table[first:end], blocks[first:end])
        self.commit(n - before)
        if state is not None:
            self.pools.rows.write(self.row, state.data)
            self.pools.rows.pending[self.row] = state.n_pending
            self._show_row(is_fresh=False)
        return True

    # -- the prefix cache

    def tail(self) -> tuple[bytes, int]:
        """The tokens of the block being filled, and the block."""
        assert self.node is not None
        start = self.node.end
        if start == self.n_computed:
            return b"", -1
        return self.history[start : self.n_computed].tobytes(), self.table[start // BLOCK_CELLS]

    def checkpoint(self, kind: Kind = Kind.PROMPT, *, is_wanted: bool = False) -> bool:
        """Keep a copy of the row at ``n_computed``, a block boundary; False if it cannot be had, or
        if what would have to be given up for it is worth more, unless somebody waits for it."""
        return keep_checkpoint(self, kind, is_wanted=is_wanted)

    # -- small helpers

    def _append_block(self, block: int) -> None:
        self.table_row[len(self.table)] = block
        self.table.append(block)

    def _cut_table(self) -> None:
        if not self.pools.has_blocks:
            return
        n_blocks = -(-self.n_computed // BLOCK_CELLS)
        while len(self.table) > n_blocks:
            self.pools.blocks.release(self.table.pop())
        self.n_writable = self.n_computed

    def _show_row(self, *, is_fresh: bool) -> None:
        """Tell kernels what is in the row."""
        self._is_fresh = is_fresh
        self._fresh[self.slot] = is_fresh
        self._pending[self.slot] = self.pools.rows.pending[self.row]
