"""The index of reusable prefixes: which cached blocks and checkpoints begin with which tokens.

A node is one block of 16 tokens below its parent's; a partial node is the unfinished last block of
a sequence that has ended. Children are found by their tokens themselves, never by a hash alone, and
each cache salt has a tree of its own. The tree owns no memory: callers free what it lets go of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Protocol

from slotmux.runtime.ubatch import BLOCK_CELLS

TOKEN_BYTES = 4
BLOCK_BYTES = BLOCK_CELLS * TOKEN_BYTES
# What CPython takes for them, with their places in pools and orders, in the worst case
# (tests/runtime/memory/test_index_bytes.py).
NODE_BYTES, ROOT_BYTES, STATE_BYTES = 1152, 1792, 1024


def tenant_of(salt: str) -> str:
    """Whose a salt is: what stands before its first slash."""
    return salt.partition("/")[0]


class Kind(Enum):
    """Why a state is kept."""

    PROMPT = "prompt"  # where a message begins, where a prompt ends or left another's path
    ANSWER = "answer"  # where an answer ended
    ROLLING = "rolling"  # on the way, in case the rest is lost


class Node:
    """Up to 16 tokens at one place in the tree. ``key``: their int32 bytes; ``start``: how many
    tokens come before; ``block``: the cells that hold them (-1 for a model without attention)."""

    __slots__ = (
        "block",
        "checkpoints",
        "children",
        "digest",
        "end",
        "key",
        "n_live",
        "n_needs",
        "name",
        "parent",
        "partials",
        "salt",
        "start",
    )

    def __init__(self, parent: Node | None, key: bytes, block: int, salt: str) -> None:
        self.parent = parent
        self.key = key
        self.block = block
        self.salt = salt
        self.start: int = parent.end if parent is not None else 0
        self.end: int = self.start + len(key) // TOKEN_BYTES
        self.children: dict[bytes, Node] = {}
        self.partials: dict[bytes, Node] = {}
        self.checkpoints: dict[int, Checkpoint] = {}  # by offset, 1..16
        self.n_needs = 0  # states here, and children that a state at or below them needs
        self.name = 0  # by which routers were told of it (memory/events.py); 0: they were not
        self.n_live = 0  # of a root: running sequences that stand in its tree
        self.digest: bytes | None = None  # its prefix's name on disk (disk/chain.py), once asked

    @property
    def is_full(self) -> bool:
        return len(self.key) == BLOCK_BYTES

    @property
    def is_leaf(self) -> bool:
        return not self.children and not self.partials


class Checkpoint:
    """A kept row: the state after the first ``offset`` tokens of ``node``. Never written again.

    ``before``: the state that its sequence kept or began with before it, perhaps gone since.
    """

    __slots__ = (
        "before",
        "is_before_answer",
        "is_fork",
        "is_kept",
        "is_left_behind",
        "is_of_regular",
        "kind",
        "n_hits",
        "n_next",
        "node",
        "offset",
        "row",
    )

    def __init__(
        self, node: Node, offset: int, row: int, kind: Kind, before: Checkpoint | None
    ) -> None:
        self.node = node
        self.offset = offset
        self.row = row
        self.kind = kind
        self.before = before
        self.is_kept = True
        self.n_hits = 0  # sequences that began with it
        self.n_next = 0  # sequences that kept a state after it
        # Its conversation has come back before.
        self.is_of_regular: bool = before is not None and (
            before.is_of_regular or before.n_hits > 0
        )
        self.is_fork = False  # several paths go on from it
        self.is_left_behind = False  # what overtook it has been overtaken too
        self.is_before_answer = False  # what overtook it is the end of an answer

    @property
    def position(self) -> int:
        """How many tokens of the sequence the state has seen."""
        return self.node.start + self.offset


class TreeListener(Protocol):
    """Who is told of nodes."""

    def stored(self, path: Sequence[Node]) -> None:
        """Nodes that follow each other."""

    def removed(self, nodes: Sequence[Node]) -> None:
        """Nodes in any order."""


class PrefixTree:
    """Nodes by salt and tokens. Engine thread only."""

    __slots__ = ("beginnings", "by_block", "listener", "n_nodes", "roots")

    def __init__(self) -> None:
        self.listener: TreeListener | None = None  # told of nodes that come and go
        self.roots: dict[str, Node] = {}
        self.by_block: dict[int, Node] = {}
        self.n_nodes = 0  # without roots
        # How many trees begin with a block, of one tenant (tenant, key) and of all (key).
        self.beginnings: dict[tuple[str, bytes] | bytes, int] = {}

    @property
    def n_bytes(self) -> int:
        """What the index itself takes."""
        return self.n_nodes * NODE_BYTES + len(self.roots) * ROOT_BYTES

    def enter(self, salt: str) -> Node:
        """The root for a salt, kept in being until the matching ``leave``."""
        root = self.roots.get(salt)
        if root is None:
            root = self.roots[salt] = Node(None, b"", -1, salt)
        root.n_live += 1
        return root

    def leave(self, salt: str) -> None:
        """Undo one ``enter``; an empty tree without sequences goes."""
        root = self.roots[salt]
        root.n_live -= 1
        self._drop_root_if_unused(root)

    def add(self, parent: Node, key: bytes, block: int) -> Node:
        """A new node below ``parent``; the key is a full block or the tail of an ended sequence."""
        node = Node(parent, key, block, parent.salt)
        siblings = parent.children if node.is_full else parent.partials
        assert key not in siblings
        siblings[key] = node
        self.n_nodes += 1
        self._count_beginning(node, 1)
        if block >= 0:
            self.by_block[block] = node
        if self.listener is not None:
            self.listener.stored((node,))
        return node

    def remove(self, node: Node) -> None:
        """Take a leaf without checkpoints out."""
        parent = node.parent
        assert parent is not None
        assert node.is_leaf
        assert not node.checkpoints
        del (parent.children if node.is_full else parent.partials)[node.key]
        self.n_nodes -= 1
        self._count_beginning(node, -1)
        if self.listener is not None:
            self.listener.removed((node,))
        if node.block >= 0:
            del self.by_block[node.block]
        if parent.parent is None:
            self._drop_root_if_unused(parent)

    def _count_beginning(self, node: Node, n: int) -> None:
        if node.start or not node.is_full:
            return
        for key in ((tenant_of(node.salt), node.key), node.key):
            total = self.beginnings.get(key, 0) + n
            if total:
                self.beginnings[key] = total
            else:
                del self.beginnings[key]

    def covering(self, parent: Node, key: bytes) -> Node | None:
        """A child of ``parent`` whose tokens begin with ``key``."""
        for siblings in (parent.children, parent.partials):
            for node in siblings.values():
                if node.key.startswith(key):
                    return node
        return None

    def covered(self, parent: Node, key: bytes) -> list[Node]:
        """The partial children of ``parent`` that are a beginning of ``key``."""
        return [node for node in parent.partials.values() if key.startswith(node.key)]

    def walk(self) -> Iterator[Node]:
        """Every node but the roots."""
        stack = list(self.roots.values())
        while stack:
            node = stack.pop()
            if node.parent is not None:
                yield node
            stack.extend(node.children.values())
            stack.extend(node.partials.values())

    def check_integrity(self) -> None:
        """Raise AssertionError unless links, keys and block index agree."""
        blocks = {}
        for salt, root in self.roots.items():
            assert root.salt == salt
            assert root.n_live > 0 or not root.is_leaf, "an unused root stayed"
        assert self.n_nodes == sum(1 for _ in self.walk())
        for node in self.walk():
            parent = node.parent
            assert parent is not None
            below = [*node.children.values(), *node.partials.values()]
            assert node.n_needs == len(node.checkpoints) + sum(n.n_needs > 0 for n in below)
            assert node.salt == parent.salt
            assert node.start == parent.end
            siblings = parent.children if node.is_full else parent.partials
            assert siblings[node.key] is node
            assert node.is_full or node.is_leaf
            assert all(0 < off <= node.end - node.start for off in node.checkpoints)
            if node.block >= 0:
                assert node.block not in blocks, "a block cached twice"
                blocks[node.block] = node
            else:
                assert node.checkpoints or not node.is_leaf, "a node that holds nothing stayed"
        assert blocks == self.by_block

    def _drop_root_if_unused(self, root: Node) -> None:
        if root.n_live == 0 and root.is_leaf and self.roots.get(root.salt) is root:
            del self.roots[root.salt]
