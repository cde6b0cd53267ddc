"""What a running sequence shows to the prefix tree: full blocks, checkpoints, what it leaves."""

from __future__ import annotations

from typing import Protocol

from slotmux.runtime.memory.pools import Pools
from slotmux.runtime.memory.prefix_tree import Node
from slotmux.runtime.ubatch import BLOCK_CELLS, I32


class Indexed(Protocol):
    """What the functions here read and change of a sequence (memory/sequence.py)."""

    pools: Pools
    history: I32
    salt: str
    n_computed: int
    table: list[int]
    table_row: I32
    row: int
    node: Node | None
    last_checkpoint: int

    def tail(self) -> tuple[bytes, int]:
        """Tokens and block of what ``node`` does not cover yet."""


def index_blocks(seq: Indexed) -> None:
    """Show newly filled blocks to the prefix tree; where it has an equal one, use that."""
    node = seq.node
    pools = seq.pools
    if node is None or not pools.has_blocks:
        return
    blocks = pools.blocks
    while node.end + BLOCK_CELLS <= seq.n_computed:
        i = node.end // BLOCK_CELLS
        own = seq.table[i]
        key = seq.history[node.end : node.end + BLOCK_CELLS].tobytes()
        child = node.children.get(key)
        if child is None:
            child = pools.tree.add(node, key, own)
            blocks.cache(own, seq.salt)
            pools.absorb(child)
        elif child.block != own:
            blocks.retain(child.block)
            blocks.release(own)
            seq.table[i] = child.block
            seq.table_row[i] = child.block
        node = child
    seq.node = node


def keep_checkpoint(seq: Indexed) -> bool:
    """Keep a copy of the row at ``n_computed``, a block boundary; False if it cannot be had."""
    pools = seq.pools
    n = seq.n_computed
    if seq.row < 0 or seq.node is None or n == 0 or n % BLOCK_CELLS:
        return False
    existing = seq.node.checkpoints.get(BLOCK_CELLS)
    if existing is not None and seq.node.end == n:
        pools.rows.touch(existing)
        seq.last_checkpoint = n
        return True
    row = pools.take_row()
    if row < 0:
        return False
    node = _node_at_end(seq)
    seq.last_checkpoint = n
    if BLOCK_CELLS in node.checkpoints:  # only without attention: the path was not known
        pools.rows.give_back(row)
    else:
        pools.rows.copy(seq.row, row)
        pools.keep_row(node, BLOCK_CELLS, row)
    return True


def leave_prefix(seq: Indexed) -> None:
    """Cache the unfinished last block; give the row itself away as a checkpoint."""
    pools = seq.pools
    worth = seq.n_computed - seq.last_checkpoint >= pools.checkpoint_spacing
    donate = seq.row >= 0 and worth
    if not pools.has_blocks and not donate:
        return
    node = _node_at_end(seq)
    offset = seq.n_computed - node.start
    if donate and offset not in node.checkpoints:
        pools.keep_row(node, offset, seq.row)
        seq.row = -1


def _node_at_end(seq: Indexed) -> Node:
    """The node that holds the last computed token, cached now if it was not."""
    pools = seq.pools
    node = seq.node
    assert node is not None
    if not pools.has_blocks:
        return pools.path_for(node, seq.history[: seq.n_computed])
    key, block = seq.tail()
    if not key:
        return node
    found = pools.tree.covering(node, key)
    if found is None:
        found = pools.tree.add(node, key, block)
        pools.blocks.cache(block, seq.salt)
        pools.absorb(found)
    else:
        pools.blocks.touch(found.block)
    return found
