"""Why no more of a choice's prompt was found in the prefix cache than was."""

from __future__ import annotations

from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.memory.missed import CacheMiss, Missed, why_missed
from slotmux.runtime.ubatch import BLOCK_CELLS


def missed_by(slot: Slot, choice: Choice) -> Missed:
    """Of a choice that has just got its slot, or more of its prompt from another's work."""
    seq = slot.seq
    if seq.node is None:
        return Missed(CacheMiss.OFF)
    if choice.n_cached + BLOCK_CELLS >= choice.n_prompt:
        return Missed()
    missed = why_missed(seq.pools, seq.salt, slot.history[: choice.n_prompt], seq.n_computed)
    if missed.reason is CacheMiss.STATE_EVICTED or missed.reason is CacheMiss.EVICTED:
        seq.pools.worths.on_regret()
    return missed
