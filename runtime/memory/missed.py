"""Why no more of a prompt was found than was. Reads the tree, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from slotmux.runtime.memory.match import candidates, n_common
from slotmux.runtime.memory.pools import BLOCK, STATE, Pools
from slotmux.runtime.memory.prefix_tree import BLOCK_BYTES, TOKEN_BYTES, Node, tenant_of
from slotmux.runtime.ubatch import BLOCK_CELLS, I32

MAX_STATES = 512  # places looked at for a state that was given up, the nearest first


class CacheMiss(StrEnum):
    """Why no more of a prompt was found in the prefix cache."""

    NONE = ""  # all of it was, but for a block's rest
    OFF = "off"  # the request keeps out of it
    COLD = "cold"  # nothing that begins so is known
    OTHER_SALT = "other_salt"  # cold, but another salt of the same tenant begins so
    OTHER_TENANT = "other_tenant"  # cold, but another tenant's begins so
    NEW = "new"  # nothing is known to go on from there: the rest is new
    DIVERGED = "diverged"  # what is known goes on otherwise
    EVICTED = "evicted"  # the next block was known and had to be given up
    NO_STATE = "no_state"  # more cells are known, but no recurrent state as far along was kept
    STATE_EVICTED = "state_evicted"  # more cells are known; a state that was kept had to go


@dataclass(frozen=True, slots=True)
class Missed:
    """``at``: how many tokens of the prompt are known, with or without a state."""

    reason: CacheMiss = CacheMiss.NONE
    at: int = 0


def why_missed(pools: Pools, salt: str, tokens: I32, n_found: int) -> Missed:
    """Why not all of ``tokens`` was found, but ``n_found`` of them."""
    raw = tokens.tobytes()
    node = _end_of_path(pools, salt, raw)
    if node is None:
        return Missed(_elsewhere(pools, salt, raw))
    rest = raw[node.end * TOKEN_BYTES :][:BLOCK_BYTES]
    alike = [n_common(other.key, rest) for other in candidates(node)]
    at = node.end + max(alike, default=0)
    if n_found + BLOCK_CELLS <= node.end:
        return Missed(_no_state(pools, salt, raw, n_found, node.end), at)
    if pools.ghosts.has(BLOCK, salt, node.end + BLOCK_CELLS, rest):
        return Missed(CacheMiss.EVICTED, at)
    if at == 0:
        return Missed(_elsewhere(pools, salt, raw))
    return Missed(CacheMiss.DIVERGED if alike else CacheMiss.NEW, at)


def _end_of_path(pools: Pools, salt: str, raw: bytes) -> Node | None:
    """The deepest node whose blocks ``raw`` begins with; None: nothing is known of the salt."""
    node = pools.tree.roots.get(salt)
    while node is not None:
        begin = node.end * TOKEN_BYTES
        child = node.children.get(raw[begin : begin + BLOCK_BYTES])
        if child is None:
            break
        node = child
    return node


def _elsewhere(pools: Pools, salt: str, raw: bytes) -> CacheMiss:
    key = raw[:BLOCK_BYTES]
    if pools.ghosts.has(BLOCK, salt, BLOCK_CELLS, key):
        return CacheMiss.EVICTED
    tree = pools.tree
    if tree.beginnings.get((tenant_of(salt), key), 0):
        return CacheMiss.OTHER_SALT
    return CacheMiss.OTHER_TENANT if tree.beginnings.get(key, 0) else CacheMiss.COLD


def _no_state(pools: Pools, salt: str, raw: bytes, n_found: int, end: int) -> CacheMiss:
    """Whether a state between what was found and the end of the path was kept once. States on the
    way stand at borders of blocks."""
    for place in range(end, max(n_found, end - MAX_STATES * BLOCK_CELLS), -BLOCK_CELLS):
        key = raw[place * TOKEN_BYTES - BLOCK_BYTES : place * TOKEN_BYTES]
        if pools.ghosts.has(STATE, salt, place, key):
            return CacheMiss.STATE_EVICTED
    return CacheMiss.NO_STATE
