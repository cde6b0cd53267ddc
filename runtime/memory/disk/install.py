"""Putting what was read from disk into the prefix tree, as if it had been computed here. Engine
thread. What is put in place is cached, no more: whoever needs the memory may evict it."""

from __future__ import annotations

import numpy as np

from slotmux.runtime.memory.disk.fetch import BlocksPiece, StatePiece
from slotmux.runtime.memory.memory import Memory
from slotmux.runtime.memory.prefix_tree import BLOCK_BYTES, TOKEN_BYTES, Kind, Node
from slotmux.runtime.ubatch import BLOCK_CELLS


def install_blocks(memory: Memory, salt: str, raw: bytes, piece: BlocksPiece) -> int:
    """Cache blocks of the path of int32 tokens ``raw``; returns how many tokens of it are in memory
    then. Fewer than asked where memory is short, or what leads there has been evicted."""
    tree = memory.pools.tree
    root = tree.enter(salt)
    try:
        path = _known_path(root, raw, piece.first)
        if len(path) == piece.first:
            _extend(memory, root, path, raw, piece)
        return len(path) * BLOCK_CELLS
    finally:
        tree.leave(salt)


def _known_path(root: Node, raw: bytes, n_most: int) -> list[Node]:
    path: list[Node] = []
    node: Node | None = root
    while node is not None and len(path) < n_most:
        begin = node.end * TOKEN_BYTES
        node = node.children.get(raw[begin : begin + BLOCK_BYTES])
        if node is not None:
            path.append(node)
    return path


def _extend(memory: Memory, root: Node, path: list[Node], raw: bytes, piece: BlocksPiece) -> None:
    """Add the piece's blocks to the path; those that are known by now stay."""
    pools, blocks = memory.pools, memory.pools.blocks
    for node in path:
        blocks.retain(node.block)  # what is put in place must not evict what leads to it
    places: list[int] = []
    taken: list[int] = []
    for i in range(len(piece.data)):
        node = path[-1] if path else root
        key = raw[node.end * TOKEN_BYTES : node.end * TOKEN_BYTES + BLOCK_BYTES]
        child = node.children.get(key)
        if child is None:
            block = pools.take_blocks(1) if memory.n_spare_blocks > 0 else None
            if block is None:
                break
            child = pools.tree.add(node, key, block[0])
            blocks.cache(block[0], root.salt)
            pools.absorb(child)
            places.append(i)
            taken += block
        else:
            blocks.retain(child.block)
        path.append(child)
    if taken:
        blocks.write(taken, piece.data[places])
    # Deepest first, so that LRU order evicts leaves before their parents.
    for node in reversed(path):
        blocks.release(node.block)


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
    path = _known_path(root, raw, n_whole)
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
    for each in path:
        blocks.retain(each.block)
    taken = pools.take_blocks(1) if memory.n_spare_blocks > 0 else None
    found = None
    if taken is not None:
        blocks.write(taken, piece.tail)
        found = pools.tree.add(node, rest, taken[0])
        blocks.cache(taken[0], node.salt)
        pools.absorb(found)
        blocks.release(taken[0])
    for each in reversed(path):
        blocks.release(each.block)
    return found
