"""What of a prefix is to be read from disk: found by walking the index, without touching a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.runtime.memory.disk.index import Index, StoredBlocks, StoredState
from slotmux.runtime.ubatch import BLOCK_CELLS


@dataclass(frozen=True, slots=True)
class Sought:
    """What a prompt lacks. ``raw``: its int32 tokens; ``limit`` of them may be reused, ``n_have``
    can be from memory, which knows whole blocks of the first ``n_path``."""

    raw: bytes
    limit: int
    n_have: int
    n_path: int
    has_blocks: bool
    has_rows: bool


@dataclass(frozen=True, slots=True)
class Part:
    """Blocks ``begin`` to ``end`` of a path, which are ``stored`` from its ``first`` on."""

    begin: int
    end: int
    stored: StoredBlocks
    first: int


@dataclass(frozen=True, slots=True)
class Finding:
    """How a prefix of ``n_tokens`` is got: blocks in the order of the path, then the state."""

    n_tokens: int
    parts: tuple[Part, ...] = ()
    state: StoredState | None = None

    @property
    def n_bytes(self) -> int:
        """To be read."""
        files = {id(part.stored): part.stored.n_bytes for part in self.parts}
        return sum(files.values()) + (self.state.n_bytes if self.state is not None else 0)


def look_up(index: Index, digests: Sequence[bytes], sought: Sought) -> Finding | None:
    """The longest prefix to be had that is longer than what memory has; ``digests``: of the
    prompt's prefixes of 0, 1, 2, ... whole blocks."""
    n_limit = sought.limit // BLOCK_CELLS
    if not sought.has_blocks:
        return _with_state(index, digests, sought, [], n_limit)
    begin = min(sought.n_path // BLOCK_CELLS, n_limit)
    parts: list[Part] = []
    at = begin
    while at < n_limit and (found := index.blocks.get(digests[at + 1])) is not None:
        stored, first = found
        last = parts[-1] if parts else None
        if last is not None and last.stored is stored and last.first + at - last.begin == first:
            parts[-1] = Part(last.begin, at + 1, stored, last.first)
        else:
            parts.append(Part(at, at + 1, stored, first))
        at += 1
    if sought.has_rows:
        return _with_state(index, digests, sought, parts, at)
    return Finding(at * BLOCK_CELLS, tuple(parts)) if parts else None


def _with_state(
    index: Index, digests: Sequence[bytes], sought: Sought, parts: list[Part], n_blocks: int
) -> Finding | None:
    """The deepest state that memory does not have, with the blocks that lead to it."""
    for floor in range(n_blocks, sought.n_have // BLOCK_CELLS - 1, -1):
        begin = floor * BLOCK_CELLS
        state = index.state_at(digests[floor], sought.raw, begin, sought.limit)
        if state is not None and state.position > sought.n_have:
            needed = [
                Part(part.begin, min(part.end, floor), part.stored, part.first)
                for part in parts
                if part.begin < floor
            ]
            return Finding(state.position, tuple(needed), state)
    return None
