"""Blocks, rows and the prefix tree as one: taking memory may give up what is only cached."""

from __future__ import annotations

from typing import Protocol

from slotmux.runtime.interfaces import KVStorage, RowStorage
from slotmux.runtime.memory.block_pool import BlockPool
from slotmux.runtime.memory.budget import Budget
from slotmux.runtime.memory.ghosts import Ghosts
from slotmux.runtime.memory.match import known_path
from slotmux.runtime.memory.prefix_tree import (
    BLOCK_BYTES,
    TOKEN_BYTES,
    Checkpoint,
    Kind,
    Node,
    PrefixTree,
    TreeListener,
)
from slotmux.runtime.memory.row_pool import RowPool
from slotmux.runtime.memory.worth import Worths
from slotmux.runtime.ubatch import I32

BLOCK, STATE = "block", "state"  # kinds of ghosts


class SpillHooks(Protocol):
    """What the tier below is told of (memory/disk/spill.py)."""

    def left(self, node: Node) -> None:
        """A sequence has ended; what it leaves in the tree ends with ``node``."""

    def before_drop(self, node: Node) -> None:
        """A node is about to be evicted."""

    def before_drop_state(self, state: Checkpoint) -> None:
        """A state is about to be evicted."""

    def unpin(self) -> None:
        """Nothing else can be evicted any more."""


class Pools:
    """What all sequences share. Engine thread only.

    ``cache_bytes``: what kept prefixes may take beside the cells that are ready from the start and
    a row for each slot; None: every block and row that there is, and no bound on the index.
    """

    __slots__ = (
        "_listener",
        "block_turns",
        "blocks",
        "budget",
        "ghosts",
        "has_blocks",
        "has_rows",
        "pins",
        "row_turns",
        "rows",
        "spill",
        "tree",
        "worths",
    )

    def __init__(
        self,
        kv: KVStorage,
        rows: RowStorage,
        *,
        n_slots: int,
        cache_bytes: int | None = None,
        poison: bool,
    ) -> None:
        self.has_blocks = kv.n_blocks > 0
        self.has_rows = rows.n_rows > 0
        self.worths = Worths(
            kv.block_bytes if self.has_blocks else 0, rows.row_bytes if self.has_rows else 0
        )
        # Within a budget, further ones get memory as they are used.
        n_blocks, n_rows = (
            (None, None) if cache_bytes is None else (kv.n_ready, max(rows.n_ready, n_slots))
        )
        self.blocks = BlockPool(kv, self.worths, n_blocks, poison=poison)
        self.rows = RowPool(rows, self.worths, n_rows, poison=poison)
        self.tree = PrefixTree()
        self.budget = Budget(self.blocks, self.rows, self.tree, kv.n_ready, n_slots, cache_bytes)

        self.ghosts = Ghosts()
        self._listener: TreeListener | None = None  # of nodes that a state needs
        self.spill: SpillHooks | None = None  # of the tier below, if there is one
        # Cached blocks that it holds while it puts a prefix in place, and how often each; they are
        # to be had last.
        self.pins: dict[int, int] = {}
        # How often the tree has let go of each block and row. While a count stands still, what is
        # cached there is not written to; other threads read it so.
        self.block_turns = [0] * kv.n_blocks
        self.row_turns = [0] * rows.n_rows

    def listen(self, listener: TreeListener) -> None:
        """Have a listener told of every node that can be reused from now on, or no more."""
        if self.has_rows:
            self._listener = listener
        else:
            self.tree.listener = listener

    @property
    def n_available(self) -> int:
        """Blocks that can be had, everything that is only cached being given up."""
        refs = self.blocks.refs
        return self.n_unpinned + sum(refs[block] == n for block, n in self.pins.items())

    @property
    def n_unpinned(self) -> int:
        """Those of them that the tier below does not hold."""
        return self.budget.n_most_blocks - self.blocks.n_held

    def unpin(self) -> None:
        """Have the tier below let go of the blocks that it holds."""
        if self.spill is not None:
            self.spill.unpin()

    def take_blocks(self, n: int) -> list[int] | None:
        """``n`` private blocks, giving up what is cached as needed; None (and no change) if too
        few."""
        blocks = self.blocks
        if n > blocks.n_free and n > self.n_unpinned:
            if n > self.n_available:
                return None
            self.unpin()
        while blocks.n_free < n:
            if not self.budget.bring_blocks():
                self._drop(self.worths.pop_for_block(is_shared=blocks.can_bring))
        return [blocks.take() for _ in range(n)]

    def take_row(self, besides: Checkpoint | None = None) -> int:
        """A row, giving up what is worth least, but not ``besides``, as needed; -1 if there is
        none."""
        value = self.worths.pin(besides) if besides is not None else 0.0
        while not self.rows.n_free and not self.budget.bring_row():
            key = self.worths.pop_for_row(is_shared=self.rows.can_bring)
            if key is None:
                break
            self._drop(key)
        if besides is not None:
            self.worths.unpin(besides, value)
        row = self.rows.take() if self.rows.n_free else -1
        self.budget.bring_rows_ahead()
        return row

    @property
    def has_room_for_row(self) -> bool:
        """Whether a row can be had and nothing has to be given up."""
        return self.rows.n_free > 0 or self.budget.can_bring_row

    def settle(self) -> None:
        """Give up what is cached until the budget is kept: the index may have grown."""
        while self.budget.is_passed and (self.budget.shrink() or len(self.worths)):
            if self.budget.is_passed and len(self.worths):
                self._drop(self.worths.pop_for_block())

    def drop_cache(self) -> None:
        """Forget everything that no running sequence holds."""
        while len(self.worths):
            self._drop(self.worths.pop_for_block())

    def _drop(self, key: int) -> None:
        """Give up a state by its row, or a block by its complement."""
        if key >= 0:
            state = self.rows.checkpoints[key]
            self._remember(state)
            if self.spill is not None:
                self.spill.before_drop_state(state)
            self.drop_checkpoint(state)
            return
        node = self.tree.by_block[~key]
        if self.spill is not None:
            self.spill.before_drop(node)
        for state in node.checkpoints.values():
            self._remember(state)
        self.ghosts.add(BLOCK, node.salt, node.end, node.key)
        self.drop_node(node)

    def _remember(self, state: Checkpoint) -> None:
        key = state.node.key[: state.offset * TOKEN_BYTES]
        self.ghosts.add(STATE, state.node.salt, state.position, key)

    def drop_node(self, node: Node) -> None:
        """Remove a leaf from the cache with its checkpoints; its block becomes free if unheld."""
        for checkpoint in list(node.checkpoints.values()):
            self._detach(checkpoint)
            self.rows.give_back(checkpoint.row)
        self.tree.remove(node)
        if node.block >= 0:
            self.block_turns[node.block] += 1
            self.blocks.uncache(node.block)

    def drop_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Free a checkpoint's row; without blocks, also the nodes that led to it alone."""
        node = checkpoint.node
        self._detach(checkpoint)
        self.rows.give_back(checkpoint.row)
        self._prune(node)

    def consume_checkpoint(self, checkpoint: Checkpoint) -> int:
        """Take a checkpoint's own row over instead of copying it."""
        node = checkpoint.node
        self._detach(checkpoint)
        self._prune(node)
        return checkpoint.row

    def keep_row(
        self, node: Node, offset: int, row: int, kind: Kind, before: Checkpoint | None
    ) -> Checkpoint:
        """Turn a row into the checkpoint of ``node`` at ``offset``, where there is none yet."""
        assert offset not in node.checkpoints
        if before is not None and not before.is_kept:
            before = None
        checkpoint = Checkpoint(node, offset, row, kind, before)
        node.checkpoints[offset] = checkpoint
        self.rows.keep(checkpoint)
        self._need(node)
        if before is not None:
            self.rows.worths.on_overtaken(before, checkpoint)
        return checkpoint

    def absorb(self, node: Node) -> None:
        """Drop partial siblings that ``node`` begins with; it inherits their checkpoints."""
        parent = node.parent
        assert parent is not None
        if not parent.partials:
            return
        for partial in self.tree.covered(parent, node.key):
            if partial is node:
                continue
            for offset, checkpoint in list(partial.checkpoints.items()):
                if offset not in node.checkpoints:
                    del partial.checkpoints[offset]
                    node.checkpoints[offset] = checkpoint
                    checkpoint.node = node
                    self._need(node)
                    self._need_no_more(partial)
            self.drop_node(partial)

    def path_for(self, root: Node, tokens: I32) -> Node:
        """The node that ends with the last of ``tokens``, created with its ancestors if missing.

        Only for models without attention: their nodes exist to hold checkpoints.
        """
        assert not self.has_blocks
        raw = tokens.tobytes()
        node = root
        for begin in range(0, len(raw), BLOCK_BYTES):
            key = raw[begin : begin + BLOCK_BYTES]
            child = (
                node.children.get(key) if len(key) == BLOCK_BYTES else self.tree.covering(node, key)
            )
            if child is None:
                child = self.tree.add(node, key, -1)
                self.absorb(child)
            node = child
        return node

    def forget(self, salt: str, tokens: I32) -> None:
        """Drop every checkpoint on the path of ``tokens``, and its idle nodes from the end up."""
        for node in reversed(known_path(self.tree, salt, tokens.tobytes())):
            for checkpoint in list(node.checkpoints.values()):
                self._detach(checkpoint)
                self.rows.give_back(checkpoint.row)
            idle = node.block < 0 or self.blocks.refs[node.block] == 0
            if node.is_leaf and idle:
                self.drop_node(node)

    def _detach(self, checkpoint: Checkpoint) -> None:
        node = checkpoint.node
        del node.checkpoints[checkpoint.offset]
        self.row_turns[checkpoint.row] += 1
        self.rows.unkeep(checkpoint)
        self._need_no_more(node)

    def _need(self, node: Node) -> None:
        """A state is kept at a node: the blocks of its path are needed."""
        path = self._count_needs(node, 1)
        if self._listener is not None:
            self._listener.stored(path[::-1])

    def _need_no_more(self, node: Node) -> None:
        """A state at a node has gone. What nothing else needs goes next, the deepest first."""
        path = self._count_needs(node, -1)
        if self._listener is not None:
            self._listener.removed(path)

    def _count_needs(self, node: Node, n: int) -> list[Node]:
        """Add to a node's needs. One that comes to have any, or none, is a need more or less of its
        parent; returns these nodes, the deepest first."""
        path = []
        few = 0 if n > 0 else 1
        while node.n_needs == few and node.parent is not None:
            node.n_needs += n
            if node.block >= 0:
                self.blocks.need(node.block, is_needed=n > 0)
            path.append(node)
            node = node.parent
        node.n_needs += n
        return path

    def _prune(self, node: Node) -> None:
        while node.parent is not None and node.block < 0:
            if node.checkpoints or not node.is_leaf:
                return
            parent = node.parent
            self.tree.remove(node)
            node = parent
