"""What is on disk, by what it begins with. Reads are safe on any thread: each is one look into a
dictionary whose values are never changed in place. Writers hold the store's lock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from slotmux.runtime.memory.prefix_tree import TOKEN_BYTES
from slotmux.runtime.ubatch import BLOCK_CELLS


@dataclass(slots=True, eq=False)
class StoredBlocks:
    """A file of consecutive whole blocks of one path. ``digests``: of the prefixes that end with
    each."""

    name: str
    n_bytes: int
    owner: str
    digests: tuple[bytes, ...]
    touched_ns: int = 0  # as the file system has it
    n_hits: int = 0


@dataclass(slots=True, eq=False)
class StoredState:
    """A file with the recurrent state after ``position`` tokens: those of ``floor``, the digest of
    all whole blocks, then ``rest``. ``first``: the digest of the first block."""

    name: str
    n_bytes: int
    owner: str
    floor: bytes
    rest: bytes  # int32 tokens of the unfinished block
    first: bytes
    position: int
    n_pending: int
    state_kind: str  # of Kind
    touched_ns: int = 0
    n_hits: int = 0


Stored = StoredBlocks | StoredState


@dataclass(slots=True)
class Index:
    """``blocks``: by the digest of the prefix that a block ends, its file and its place there.
    ``states``: by ``floor``. ``firsts``: how many states begin with a block."""

    blocks: dict[bytes, tuple[StoredBlocks, int]] = field(default_factory=dict)
    states: dict[bytes, tuple[StoredState, ...]] = field(default_factory=dict)
    firsts: Counter[bytes] = field(default_factory=Counter)

    def add(self, stored: Stored) -> None:
        """Make a file findable."""
        if isinstance(stored, StoredBlocks):
            for i, digest in enumerate(stored.digests):
                self.blocks.setdefault(digest, (stored, i))
            return
        self.states[stored.floor] = (*self.states.get(stored.floor, ()), stored)
        self.firsts[stored.first] += 1

    def remove(self, stored: Stored) -> None:
        """Have a file not be found any more."""
        if isinstance(stored, StoredBlocks):
            for digest in stored.digests:
                found = self.blocks.get(digest)
                if found is not None and found[0] is stored:
                    del self.blocks[digest]
            return
        rest = tuple(s for s in self.states.get(stored.floor, ()) if s is not stored)
        if rest:
            self.states[stored.floor] = rest
        else:
            self.states.pop(stored.floor, None)
        self.firsts[stored.first] -= 1
        if self.firsts[stored.first] <= 0:
            del self.firsts[stored.first]

    def has_state(self, floor: bytes, rest: bytes) -> bool:
        """Whether the state is there."""
        return any(s.rest == rest for s in self.states.get(floor, ()))

    def state_at(self, floor: bytes, raw: bytes, begin: int, limit: int) -> StoredState | None:
        """The deepest state of at most ``limit`` tokens whose whole blocks are ``floor``, the first
        ``begin`` tokens of ``raw`` (int32)."""
        best: StoredState | None = None
        for state in self.states.get(floor, ()):
            if state.position > limit or (best is not None and state.position <= best.position):
                continue
            at = begin * TOKEN_BYTES
            if raw[at : at + len(state.rest)] == state.rest:
                best = state
        return best


def rest_of(raw: bytes, position: int) -> bytes:
    """The int32 tokens of the unfinished block of a prefix."""
    return raw[position // BLOCK_CELLS * BLOCK_CELLS * TOKEN_BYTES : position * TOKEN_BYTES]
