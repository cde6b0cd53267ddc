"""Finding the longest reusable prefix of a token sequence. Reads the tree, changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from slotmux.runtime.memory.prefix_tree import (
    BLOCK_BYTES,
    TOKEN_BYTES,
    Checkpoint,
    Node,
    PrefixTree,
)
from slotmux.runtime.ubatch import BLOCK_CELLS, I32

# Siblings looked at for a partly equal block, newest first: many clients may share a system prompt
# and differ after it, and admission must not become slow for a gain below one block.
MAX_SIBLINGS = 64


class LiveTail(Protocol):
    """A running sequence, seen as the owner of a block that it is still filling."""

    @property
    def node(self) -> Node | None: ...
    def tail(self) -> tuple[bytes, int]: ...


@dataclass(frozen=True, slots=True)
class Match:
    """A reusable prefix of ``n_tokens``: whole blocks to share, then cells of a block to copy."""

    n_tokens: int = 0
    nodes: tuple[Node, ...] = ()  # full blocks, shared
    source: int = -1  # block whose first n_tokens % 16 cells are copied
    checkpoint: Checkpoint | None = None  # the row to copy; None for models without rows
    n_path: int = 0  # tokens of whole blocks that are known, whether or not there is a state


NO_MATCH = Match()


def find(
    tree: PrefixTree,
    salt: str,
    tokens: I32,
    limit: int,
    *,
    live: Iterable[LiveTail] = (),
    needs_row: bool,
) -> Match:
    """The longest prefix of ``tokens[:limit]`` whose blocks (and row, if needed) exist."""
    if salt not in tree.roots or limit <= 0:
        return NO_MATCH
    raw = tokens[:limit].tobytes()
    return match_of(tree, salt, known_path(tree, salt, raw), raw, live=live, needs_row=needs_row)


def known_path(tree: PrefixTree, salt: str, raw: bytes) -> list[Node]:
    """The whole blocks with which int32 tokens ``raw`` begin, as far as the tree knows them."""
    path: list[Node] = []
    node = tree.roots.get(salt)
    while node is not None:
        begin = node.end * TOKEN_BYTES
        node = node.children.get(raw[begin : begin + BLOCK_BYTES])
        if node is not None:
            path.append(node)
    return path


def match_of(
    tree: PrefixTree,
    salt: str,
    path: list[Node],
    raw: bytes,
    *,
    live: Iterable[LiveTail] = (),
    needs_row: bool,
) -> Match:
    """What can be reused of int32 tokens ``raw``, whose ``known_path`` is ``path``."""
    node = path[-1] if path else tree.roots.get(salt)
    if node is None:
        return NO_MATCH
    begin = node.end * TOKEN_BYTES
    rest = raw[begin : begin + BLOCK_BYTES]
    if needs_row:
        return _match_checkpoint(list(path), node, rest)
    return _match_cells(path, node, rest, live)


def _match_cells(path: list[Node], node: Node, rest: bytes, live: Iterable[LiveTail]) -> Match:
    n_best, source = 0, -1
    for sibling in candidates(node):
        n = n_common(sibling.key, rest)
        if n > n_best:
            n_best, source = n, sibling.block
    for sequence in live:
        if sequence.node is node:
            key, block = sequence.tail()
            n = n_common(key, rest)
            if n > n_best:
                n_best, source = n, block
    assert n_best < BLOCK_CELLS
    return Match(node.end + n_best, tuple(path), source, n_path=node.end)


def _match_checkpoint(path: list[Node], node: Node, rest: bytes) -> Match:
    n_path = node.end
    best: Checkpoint | None = None
    for sibling in candidates(node):
        if not sibling.checkpoints:
            continue
        n = n_common(sibling.key, rest)
        for offset, checkpoint in sibling.checkpoints.items():
            if offset <= n and (best is None or offset > best.offset):
                best = checkpoint
    while best is None and path:
        node = path.pop()
        if node.checkpoints:
            best = node.checkpoints[max(node.checkpoints)]
            path.append(node)
            break
    if best is None:
        return Match(n_path=n_path)
    n_tokens = best.position
    nodes = tuple(path[: n_tokens // BLOCK_CELLS])
    source = best.node.block if n_tokens % BLOCK_CELLS else -1
    return Match(n_tokens, nodes, source, best, n_path)


def candidates(node: Node) -> Iterator[Node]:
    """What goes on from a node, the newest first, not all of it if there is much."""
    yield from islice(reversed(node.partials.values()), MAX_SIBLINGS)
    yield from islice(reversed(node.children.values()), MAX_SIBLINGS)


def n_common(a: bytes, b: bytes) -> int:
    """How many int32 tokens two keys have in common at their beginning."""
    n = min(len(a), len(b))
    for i in range(0, n, TOKEN_BYTES):
        if a[i : i + TOKEN_BYTES] != b[i : i + TOKEN_BYTES]:
            return i // TOKEN_BYTES
    return n // TOKEN_BYTES
