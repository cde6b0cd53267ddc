"""Names of prefixes: a digest for each whole block of a sequence, made of the one before it, so
that it stands for the block's tokens and all before them, and for whose they are.

256 bits, since tokens are a client's to choose: two prefixes with one name cannot be found.
"""

from __future__ import annotations

from hashlib import blake2b

from slotmux.runtime.memory.prefix_tree import BLOCK_BYTES, TOKEN_BYTES, Checkpoint, Node
from slotmux.runtime.ubatch import BLOCK_CELLS

DIGEST_BYTES = 32
_SEED = b"slotmux prefix 1"  # 16 bytes at most


def root_digest(salt: str) -> bytes:
    """What every prefix of an owner begins with."""
    return blake2b(salt.encode(), digest_size=DIGEST_BYTES, person=_SEED).digest()


def next_digest(digest: bytes, key: bytes) -> bytes:
    """The name of a prefix that is one block longer; ``key``: the block's tokens."""
    return blake2b(key, digest_size=DIGEST_BYTES, key=digest).digest()


def digests_of(salt: str, raw: bytes) -> list[bytes]:
    """Names of the prefixes of 0, 1, 2, ... whole blocks of int32 tokens."""
    digests = [root_digest(salt)]
    for begin in range(0, len(raw) // BLOCK_BYTES * BLOCK_BYTES, BLOCK_BYTES):
        digests.append(next_digest(digests[-1], raw[begin : begin + BLOCK_BYTES]))
    return digests


def node_digest(node: Node) -> bytes:
    """The name of the prefix that ends with a full node, or of a root's: computed once."""
    unnamed: list[Node] = []
    at = node
    while at.digest is None and at.parent is not None:
        unnamed.append(at)
        at = at.parent
    if at.digest is None:
        at.digest = root_digest(at.salt)
    digest = at.digest
    for each in reversed(unnamed):
        assert each.is_full
        digest = each.digest = next_digest(digest, each.key)
    return digest


def state_key(state: Checkpoint) -> tuple[bytes, bytes]:
    """The name of a kept state: the digest of its whole blocks, and the tokens behind them."""
    node = state.node
    if state.offset == BLOCK_CELLS:
        return node_digest(node), b""
    assert node.parent is not None
    return node_digest(node.parent), node.key[: state.offset * TOKEN_BYTES]


def owner_of(salt: str) -> str:
    """A short name for an owner that tells nothing about them."""
    return root_digest(salt)[:6].hex()
