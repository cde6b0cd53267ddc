"""Blocks, rows and the prefix tree as one: taking memory may evict what is only cached."""

from __future__ import annotations

from typing import Protocol

from slotmux.runtime.interfaces import KVStorage, RowStorage
from slotmux.runtime.memory.block_pool import BlockPool
from slotmux.runtime.memory.prefix_tree import (
    BLOCK_BYTES,
    TOKEN_BYTES,
    Checkpoint,
    Kind,
    Node,
    PrefixTree,
)
from slotmux.runtime.memory.row_pool import RowPool
from slotmux.runtime.ubatch import I32


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
    """What all sequences share. Engine thread only."""

    __slots__ = (
        "block_turns",
        "blocks",
        "has_blocks",
        "has_rows",
        "pins",
        "row_turns",
        "rows",
        "spill",
        "tree",
    )

    def __init__(self, kv: KVStorage, rows: RowStorage, *, poison: bool) -> None:
        self.blocks = BlockPool(kv, poison=poison)
        self.rows = RowPool(rows, poison=poison)
        self.tree = PrefixTree()
        self.has_blocks = kv.n_blocks > 0
        self.has_rows = rows.n_rows > 0
        self.spill: SpillHooks | None = None  # of the tier below, if there is one
        # Cached blocks that it holds while it puts a prefix in place, and how often each; they are
        # to be had last.
        self.pins: dict[int, int] = {}
        # How often the tree has let go of each block and row. While a count stands still, what is
        # cached there is not written to; other threads read it so.
        self.block_turns = [0] * kv.n_blocks
        self.row_turns = [0] * rows.n_rows

    @property
    def n_available(self) -> int:
        """Blocks that can be had, everything that is only cached being evicted."""
        return self.blocks.n_available + self.n_pinned

    @property
    def n_pinned(self) -> int:
        """Blocks that nobody but the tier below holds."""
        refs = self.blocks.refs
        return sum(refs[block] == n for block, n in self.pins.items())

    def unpin(self) -> None:
        """Have the tier below let go of the blocks that it holds."""
        if self.spill is not None:
            self.spill.unpin()

    def take_blocks(self, n: int) -> list[int] | None:
        """``n`` private blocks, evicting cached ones as needed; None (and no change) if too few."""
        blocks = self.blocks
        if n > self.n_available:
            return None
        while blocks.n_free < n:
            if not blocks.n_idle:
                self.unpin()
            victim = self.tree.by_block[blocks.oldest_idle()]
            if self.spill is not None:
                self.spill.before_drop(victim)
            self.drop_node(victim)
        return [blocks.take() for _ in range(n)]

    def take_row(self, besides: Checkpoint | None = None) -> int:
        """A row, evicting the checkpoint that is worth least, but not ``besides``, as needed; -1 if
        there is none."""
        if not self.rows.n_free:
            victim = self.rows.give_up(besides)
            if victim is None:
                return -1
            if self.spill is not None:
                self.spill.before_drop_state(victim)
            self.drop_checkpoint(victim)
        return self.rows.take()

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
        node = self.tree.roots.get(salt)
        raw = tokens.tobytes()
        path: list[Node] = []
        while node is not None:
            path.append(node)
            begin = node.end * TOKEN_BYTES
            node = node.children.get(raw[begin : begin + BLOCK_BYTES])
        for node in reversed(path[1:]):
            for checkpoint in list(node.checkpoints.values()):
                self._detach(checkpoint)
                self.rows.give_back(checkpoint.row)
            idle = node.block < 0 or self.blocks.refs[node.block] == 0
            if node.is_leaf and idle:
                self.drop_node(node)

    def _detach(self, checkpoint: Checkpoint) -> None:
        del checkpoint.node.checkpoints[checkpoint.offset]
        self.row_turns[checkpoint.row] += 1
        self.rows.unkeep(checkpoint)

    def _prune(self, node: Node) -> None:
        while node.parent is not None and node.block < 0:
            if node.checkpoints or not node.is_leaf:
                return
            parent = node.parent
            self.tree.remove(node)
            node = parent
