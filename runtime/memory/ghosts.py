"""What was given up lately: enough to say that a prefix is not found because it was evicted."""

from __future__ import annotations

from array import array

N_GHOSTS = 1 << 15


class Ghosts:
    """Digests of blocks and states that were given up, in a table of fixed size: the newest stay,
    some get lost. Engine thread only."""

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table = array("q", bytes(8 * N_GHOSTS))

    def add(self, kind: str, salt: str, end: int, key: bytes) -> None:
        """``key``: the int32 bytes of the last tokens before position ``end``."""
        digest = hash((kind, salt, end, key)) or 1
        self._table[digest % N_GHOSTS] = digest

    def has(self, kind: str, salt: str, end: int, key: bytes) -> bool:
        """Whether such a thing was given up lately."""
        digest = hash((kind, salt, end, key)) or 1
        return self._table[digest % N_GHOSTS] == digest
