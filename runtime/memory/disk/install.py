"""Putting what was read from disk into the prefix tree, as if it had been computed here. Engine
thread. What is put in place is cached, no more: whoever needs the memory may evict it."""

from __future__ import annotations

import numpy as np

from slotmux.runtime.memory.disk.fetch import BlocksPiece, StatePiece
from slotmux.runtime.memory.match import known_path
from slotmux.runtime.memory.memory import Memory
from slotmux.runtime.memory.prefix_tree import BLOCK_BYTES, TOKEN_BYTES, Kind, Node
from slotmux.runtime.ubatch import BLOCK_CELLS


def install_blocks(
    memory: Memory, salt: str, raw: bytes, piece: BlocksPiece, pins: list[int]
) -> int:
    """Cache blocks of the path of int32 tokens ``raw``; returns how many tokens of it are in memory
    then. Fewer than asked where memory is short, or what leads there has been evicted.

    ``pins``: the path's blocks that are held so far, which grow by those of this piece: nothing
    that is put in place for the same prefix may evict them.
    """
    tree = memory.pools.tree
    root = tree.enter(salt)
    try:
        path = known_path(tree, salt, raw[: piece.first * BLOCK_BYTES])
        if len(path) < piece.first:
            return len(path) * BLOCK_CELLS
        _pin(memory, path, pins)
        return _extend(memory, path[-1] if path else root, raw, piece, pins)
    finally:
        tree.leave(salt)


def _pin(memory: Memory, path: list[Node], pins: list[int]) -> None:
    for node in path[len(pins) :]:
        memory.pools.blocks.retain(node.block)
        _note(memory, node.block, pins)


def _note(memory: Memory, block: int, pins: list[int]) -> None:
    held = memory.pools.pins
    held[block] = held.get(block, 0) + 1
    pins.append(block)


def unpin(memory: Memory, pins: list[int]) -> None:
    """Let go of a path's blocks, deepest first, so that LRU order evicts leaves before their
    parents."""
    held = memory.pools.pins
    while pins:
        block = pins.pop()
        held[block] -= 1
        if not held[block]:
            del held[block]
        memory.pools.blocks.release(block)


def _extend(memory: Memory, node: Node, raw: bytes, piece: BlocksPiece, pins: list[int]) -> int:
    """Add the piece's blocks below a node; those that are known by now stay."""
    pools, blocks = memory.pools, memory.pools.blocks
    places: list[int] = []
    taken: list[int] = []
    for i in range(len(piece.data)):
        key = raw[node.end * TOKEN_BYTES : node.end * TOKEN_BYTES + BLOCK_BYTES]
        child = node.children.get(key)
        if child is not None:
            blocks.retain(child.block)
        else:
            block = _spare_block(memory)
            if block is None:
                break
            child = pools.tree.add(node, key, block)
            blocks.cache(block, node.salt)
            pools.absorb(child)
            places.append(i)
            taken.append(block)
        _note(memory, child.block, pins)
        node = child
    if taken:
        blocks.write(taken, piece.data[places])
    return node.end


def _spare_block(memory: Memory) -> int | None:
    """A block that nobody was promised, and for which no pin has to go."""
    pools = memory.pools
    if memory.n_spare_blocks <= 0 or pools.n_unpinned <= 0:
        return None
    taken = pools.take_blocks(1)
    return taken[0] if taken is not None else None


def install_state(memory: Memory, salt: str, raw: bytes, piece: StatePiece) -> bool:
    """Keep a state on the path of int32 tokens ``raw``; False where there is no memory for it, or
    what leads there is gone."""
    tree = memory.pools.tree
    tree.enter(salt)
    try:
        return _install_state(memory, salt, raw[: piece.position * TOKEN_BYTES], piece)
    finally:
        tree.leave(salt)


def _install_state(memory: Memory, salt: str, raw: bytes, piece: StatePiece) -> bool:
    pools = memory.pools
    row = pools.take_row()
    if row < 0:
        return False
    node = _node_for(memory, salt, raw, piece)
    offset = piece.position - node.start if node is not None else 0
    if node is None or offset in node.checkpoints:
        pools.rows.give_back(row)
        return node is not None
    pools.rows.write(row, piece.row)
    pools.rows.pending[row] = piece.n_pending
    pools.keep_row(node, offset, row, Kind(piece.state_kind), None)
    return True


def _node_for(memory: Memory, salt: str, raw: bytes, piece: StatePiece) -> Node | None:
    """The node that holds the last token of ``raw``, which the row stands behind."""
    pools = memory.pools
    root = pools.tree.roots[salt]
    if not pools.has_blocks:
        return pools.path_for(root, np.frombuffer(raw, np.int32))
    n_whole = len(raw) // BLOCK_BYTES
    path = known_path(pools.tree, salt, raw)
    if len(path) < n_whole:
        return None
    node, rest = (path[-1] if path else root), raw[n_whole * BLOCK_BYTES :]
    if not rest:
        return node
    found = pools.tree.covering(node, rest)
    if found is not None:
        return found
    return _add_tail(memory, path, node, rest, piece)


def _add_tail(
    memory: Memory, path: list[Node], node: Node, rest: bytes, piece: StatePiece
) -> Node | None:
    pools, blocks = memory.pools, memory.pools.blocks
    if piece.tail is None:
        return None
    pins: list[int] = []
    _pin(memory, path, pins)
    block = _spare_block(memory)
    found = None
    if block is not None:
        blocks.write([block], piece.tail)
        found = pools.tree.add(node, rest, block)
        blocks.cache(block, node.salt)
        pools.absorb(found)
        blocks.release(block)
    unpin(memory, pins)
    return found
