"""How much memory kept prefixes may take beside what slots need, and in what."""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.runtime.memory.prefix_tree import NODE_BYTES, STATE_BYTES
from slotmux.runtime.sizes import ModelSizes
from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.loading.errors import CommandError
from slotmux.server.settings import Settings, told_as

AUTO_BYTES = 2**30
# Of a very small model no more than this is taken unless it is asked for.
AUTO_CELLS = 2**16
AUTO_STATES = 128


@dataclass(frozen=True, slots=True)
class CacheRoom:
    """Room for kept prefixes: ``n_bytes`` of cells, states and the index of both, beside the slots'
    own cells and states. What slots do not use serves prefixes too."""

    n_bytes: int = 0
    n_blocks: int = 0  # blocks of cells beside the slots' own, at most
    n_states: int = 0  # kept states, at most
    n_ready_states: int = 0  # whose memory is taken at the start: the first to be kept cost a copy
    is_elastic: bool = False  # cells and states share the bytes


def cache_room(settings: Settings, sizes: ModelSizes, n_cells: int, n_free: int) -> CacheRoom:
    """What the operator chose, or what is sensible where ``n_free`` bytes are left beside the rest:
    half of them and at most 1 GiB. Raises CommandError for a choice that cannot be fulfilled."""
    block = round(sizes.cell * BLOCK_CELLS) + NODE_BYTES if sizes.cell else 0
    state = sizes.row + STATE_BYTES if sizes.row else 0
    n_bytes = settings.prefix_cache_bytes
    is_auto = n_bytes < 0
    if is_auto:
        most = AUTO_CELLS // BLOCK_CELLS * block + AUTO_STATES * state
        n_bytes = max(0, min(AUTO_BYTES, most, n_free // 2))
    # What the slots' own cells could hold, too.
    n_all = n_bytes + -(-n_cells // BLOCK_CELLS) * block
    n_states = n_all // state if state else 0
    if settings.ctx_checkpoints >= 0:
        n_states = min(n_states, settings.ctx_checkpoints * settings.parallel)
    if not is_auto:
        _check(settings, block, state, n_all)
    n_blocks = n_bytes // block if block else 0
    if is_auto:
        n_blocks = min(n_blocks, AUTO_CELLS // BLOCK_CELLS)
        n_states = min(n_states, AUTO_STATES)
    n_ready = min(n_states, n_bytes // 2 // state) if state else 0
    return CacheRoom(n_bytes, n_blocks, n_states, n_ready, is_elastic=bool(state))


def _check(settings: Settings, block: int, state: int, n_all: int) -> None:
    """Refuse a size in which there is no room for anything."""
    n_bytes, name = settings.prefix_cache_bytes, told_as("prefix_cache_bytes")
    if state and settings.ctx_checkpoints > 0 and n_all < state:
        raise CommandError(
            f"{told_as('ctx_checkpoints')} {settings.ctx_checkpoints}: {name} {n_bytes} has no room"
            f" for a state of this model, which takes {state} bytes"
        )
    least = block or state
    if 0 < n_bytes < least:
        what = "block of 16 cells" if block else "state"
        raise CommandError(
            f"{name} {n_bytes}: a {what} of this model takes {least} bytes; 0: prefixes use only"
            " what slots leave"
        )
