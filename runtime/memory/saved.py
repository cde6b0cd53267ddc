"""A cached prefix as bytes, and back: its tokens, its blocks of cells, the states along it.

Both directions are copies; the cache stays as it was, or gets what it lacks. Engine thread only.
"""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.indexing import keep_checkpoint
from slotmux.runtime.memory.match import find
from slotmux.runtime.memory.memory import Memory
from slotmux.runtime.memory.prefix_tree import TOKEN_BYTES, Kind
from slotmux.runtime.memory.sequence import SavedState, Sequence
from slotmux.runtime.ubatch import BLOCK_CELLS, I32


@dataclass(frozen=True, slots=True)
class SavedPrefix:
    """``blocks`` [n, block_bytes] hold all of ``tokens`` (none without attention); ``states`` in
    ascending order, the last one after all tokens (none without recurrent layers)."""

    salt: str
    tokens: I32
    blocks: Bytes
    states: list[SavedState]


def save_prefix(memory: Memory, tokens: I32, salt: str) -> SavedPrefix:
    """The longest prefix of ``tokens`` from which a sequence could go on."""
    pools = memory.pools
    match = find(pools.tree, salt, tokens, len(tokens), needs_row=pools.has_rows)
    blocks = [node.block for node in match.nodes]
    if match.source >= 0 and match.n_tokens % BLOCK_CELLS:
        blocks.append(match.source)
    kept = {c.position: c for node in match.nodes for c in node.checkpoints.values()}
    if match.checkpoint is not None:
        kept[match.n_tokens] = match.checkpoint
    rows = pools.rows
    return SavedPrefix(
        salt,
        tokens[: match.n_tokens].copy(),
        pools.blocks.read(blocks if pools.has_blocks else []),
        [
            SavedState(position, rows.pending[c.row], rows.read(c.row))
            for position, c in sorted(kept.items())
        ],
    )


def restore_prefix(memory: Memory, seq: Sequence, saved: SavedPrefix) -> int | None:
    """Puts a saved prefix into the cache by way of a sequence that is not open; returns how many of
    its tokens are there now, None if there is no room for any beside what runs."""
    n = len(saved.tokens)
    assert n <= memory.n_ctx
    seq.history[:n] = saved.tokens
    if memory.open(seq, min(n + 1, memory.n_ctx), saved.salt) is None:
        return None
    has_rows = memory.pools.has_rows
    places = [s.position for s in saved.states] if has_rows else [n]
    for index, position in enumerate(places):
        if position <= seq.n_computed:
            continue
        state = saved.states[index] if has_rows else None
        if not seq.load(position, saved.blocks, state):
            break
        if has_rows and position < n:
            keep_checkpoint(seq, Kind.PROMPT, is_wanted=True)
    n_restored = seq.n_computed
    seq.release()
    return n_restored


def erase_prefix(memory: Memory, tokens: I32, salt: str) -> int:
    """Has the cache forget ``tokens`` as far as nothing else goes on from them; returns how many
    cannot be reused any more."""
    pools = memory.pools
    before = _n_cached(memory, tokens, salt)
    node = pools.tree.roots.get(salt)
    raw = tokens.tobytes()
    while node is not None:
        begin = node.end * TOKEN_BYTES
        child = node.children.get(raw[begin : begin + BLOCK_CELLS * TOKEN_BYTES])
        if child is None:
            break
        node = child
    if node is not None:
        tail = node.partials.get(raw[node.end * TOKEN_BYTES :])
        if tail is not None and (tail.block < 0 or pools.blocks.refs[tail.block] == 0):
            pools.drop_node(tail)
    pools.forget(salt, tokens)
    return before - _n_cached(memory, tokens, salt)


def _n_cached(memory: Memory, tokens: I32, salt: str) -> int:
    pools = memory.pools
    return find(pools.tree, salt, tokens, len(tokens), needs_row=pools.has_rows).n_tokens
