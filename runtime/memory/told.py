"""What the prefix cache holds, for operators: paths, sizes and states; no tokens, no salts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from slotmux.runtime.memory.disk.chain import node_digest, state_key
from slotmux.runtime.memory.disk.index import Index
from slotmux.runtime.memory.memory import Memory
from slotmux.runtime.memory.prefix_tree import Checkpoint, Node


@dataclass(frozen=True, slots=True)
class KeptState:
    """A kept recurrent state."""

    position: int  # tokens that it has seen
    kind: str  # of Kind
    n_hits: int  # sequences that began with it
    is_fork: bool  # several paths go on from it
    worth: float  # the least is given up first, of owners that hold at least the average
    is_on_disk: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """A path without a fork."""

    id: int
    parent: int  # -1: begins at position 0
    owner: str  # a digest of the salt
    begin: int  # tokens before it
    end: int
    n_blocks: int
    n_held: int  # blocks of them that running sequences hold
    n_on_disk: int  # blocks of them that are in the tier on disk, too
    states: tuple[KeptState, ...]


def prefixes_of(
    memory: Memory, n_max: int, index: Index | None = None
) -> tuple[list[Stretch], bool]:
    """At most ``n_max`` stretches of the tree, parents first, and whether these are all; ``index``:
    of the tier on disk. Engine thread only."""
    found: list[Stretch] = []
    waiting: list[tuple[Node, int, str]] = []
    for salt, root in memory.pools.tree.roots.items():
        owner = hashlib.blake2b(salt.encode(), digest_size=6).hexdigest()
        waiting += [(child, -1, owner) for child in _next(root)]
    while waiting and len(found) < n_max:
        node, parent, owner = waiting.pop()
        path = [node]
        while len(below := _next(path[-1])) == 1:
            path.append(below[0])
        found.append(_stretch(memory, index, path, len(found), parent, owner))
        waiting += [(child, found[-1].id, owner) for child in below]
    return found, not waiting


def _next(node: Node) -> list[Node]:
    return [*node.children.values(), *node.partials.values()]


def _stretch(
    memory: Memory, index: Index | None, path: list[Node], number: int, parent: int, owner: str
) -> Stretch:
    refs = memory.pools.blocks.refs
    blocks = [node.block for node in path if node.block >= 0]
    states = [state for node in path for _, state in sorted(node.checkpoints.items())]
    return Stretch(
        id=number,
        parent=parent,
        owner=owner,
        begin=path[0].start,
        end=path[-1].end,
        n_blocks=len(blocks),
        n_held=sum(refs[block] > 0 for block in blocks),
        n_on_disk=sum(node.is_full and node_digest(node) in index.blocks for node in path)
        if index is not None
        else 0,
        states=tuple(_kept(memory, index, state) for state in states),
    )


def _kept(memory: Memory, index: Index | None, state: Checkpoint) -> KeptState:
    worth = memory.pools.worths.of(state)
    is_on_disk = index is not None and index.has_state(*state_key(state))
    return KeptState(
        state.position, state.kind.value, state.n_hits, state.is_fork, worth, is_on_disk
    )
