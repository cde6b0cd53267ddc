"""What routers are told of the prefix cache: which blocks can be reused here, and which no more.

A block of a path counts as stored when a request that begins with it would find it: where a model
needs a state too, that is up to the deepest one of the path. Names are 64-bit digests of tokens,
path and salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slotmux.runtime.memory.prefix_tree import Node, PrefixTree


@dataclass(slots=True)
class BlocksStored:
    """Blocks of one path in order; ``tokens``: int32 bytes of all of them. ``parent``: the name of
    the block before them, None at a path's beginning."""

    names: list[int]
    parent: int | None
    salt: str
    tokens: list[bytes]


@dataclass(slots=True)
class BlocksRemoved:
    """Blocks that can be reused no more."""

    names: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AllCleared:
    """Nothing is stored; what still is, is told anew after this."""


Event = BlocksStored | BlocksRemoved | AllCleared


class EventPort(Protocol):
    """Where events go. Never waits."""

    @property
    def is_idle(self) -> bool:
        """Whether everything has been sent."""

    def publish(self, events: list[Event]) -> bool:
        """Take one batch; False if there was no room for it: it is lost."""


class BlockEvents:
    """Gathers what changes in a tree, a batch a step. Engine thread only.

    When the port has lost a batch, nothing is sent until it has come to rest, and then everything
    from the beginning.
    """

    def __init__(self, tree: PrefixTree, port: EventPort) -> None:
        self._tree, self._port = tree, port
        self._events: list[Event] = [AllCleared()]  # another process may have spoken here before
        self._is_lost = False

    def stored(self, path: Sequence[Node]) -> None:
        """Nodes that follow each other can be reused from now on."""
        for node in path:
            if node.is_full:
                parent = node.parent
                assert parent is not None
                node.name = _name(node, parent)
                self._tell(node, parent.name if parent.parent is not None else None)

    def removed(self, nodes: Iterable[Node]) -> None:
        """Nodes can be reused no more."""
        names = [node.name for node in nodes if node.name]
        for node in nodes:
            node.name = 0
        if not names or self._is_lost:
            return
        last = self._events[-1] if self._events else None
        if not isinstance(last, BlocksRemoved):
            last = BlocksRemoved()
            self._events.append(last)
        last.names += names

    def flush(self) -> None:
        """Send what has gathered."""
        if self._is_lost:
            self._events = []
            if not self._port.is_idle:
                return
            self._is_lost = False
            self._tell_all()
        if self._events:
            self._is_lost = not self._port.publish(self._events)
            self._events = []

    def _tell_all(self) -> None:
        self._events = [AllCleared()]
        for node in self._tree.walk():
            if node.name:
                parent = node.parent
                assert parent is not None
                self._tell(node, parent.name if parent.parent is not None else None)

    def _tell(self, node: Node, parent: int | None) -> None:
        if self._is_lost:
            return
        last = self._events[-1] if self._events else None
        if isinstance(last, BlocksStored) and last.names[-1] == parent:
            last.names.append(node.name)
            last.tokens.append(node.key)
        else:
            self._events.append(BlocksStored([node.name], parent, node.salt, [node.key]))


def _name(node: Node, parent: Node) -> int:
    before = parent.name.to_bytes(8, "little") if parent.parent is not None else node.salt.encode()
    digest = hashlib.blake2b(before + b"\0" + node.key, digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
