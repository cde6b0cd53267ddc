"""What a running sequence shows to the prefix tree: full blocks, checkpoints, what it leaves."""

from __future__ import annotations

from typing import Protocol

from slotmux.runtime.memory.pools import Pools
from slotmux.runtime.memory.prefix_tree import Checkpoint, Kind, Node
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
    kept: Checkpoint | None

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


def keep_checkpoint(seq: Indexed, kind: Kind, *, is_wanted: bool = False) -> bool:
    """Keep a copy of the row at ``n_computed``, a block boundary; False if it cannot be had, or if
    what would have to be given up for it is worth more. ``is_wanted``: somebody waits for it."""
    pools = seq.pools
    n = seq.n_computed
    if seq.row < 0 or seq.node is None or n == 0 or n % BLOCK_CELLS:
        return False
    existing = seq.node.checkpoints.get(BLOCK_CELLS) if seq.node.end == n else None
    if existing is not None:
        _follow(seq, existing)
        return True
    is_worth_it = is_wanted or pools.has_room_for_row
    is_shared = pools.rows.can_bring
    if not is_worth_it and not pools.worths.may_replace(kind, seq.salt, is_shared=is_shared):
        return False
    row = pools.take_row()
    if row < 0:
        return False
    node = _node_at_end(seq)
    known = node.checkpoints.get(BLOCK_CELLS)
    if known is not None:  # only without attention: the path was not known
        pools.rows.give_back(row)
        _follow(seq, known)
    else:
        pools.rows.copy(seq.row, row)
        _follow(seq, pools.keep_row(node, BLOCK_CELLS, row, kind, seq.kept))
        pools.settle()
    return True


def _follow(seq: Indexed, checkpoint: Checkpoint) -> None:
    """The sequence has come to a state that is kept."""
    seq.kept = checkpoint
    seq.last_checkpoint = seq.n_computed


def leave_prefix(seq: Indexed) -> Node | None:
    """Cache the unfinished last block; give the row itself away as a checkpoint. Returns the node
    that holds the end, if there is any."""
    pools = seq.pools
    donate = seq.row >= 0 and seq.n_computed > seq.last_checkpoint
    if not pools.has_blocks and not donate:
        return seq.kept.node if seq.kept is not None and seq.kept.is_kept else None
    node = _node_at_end(seq)
    offset = seq.n_computed - node.start
    if donate and offset not in node.checkpoints:
        seq.kept = pools.keep_row(node, offset, seq.row, Kind.ANSWER, seq.kept)
        seq.row = -1
    return node


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
