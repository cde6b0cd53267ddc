"""Why no more of a prompt was found in the prefix cache than was."""

from __future__ import annotations

from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.engine.request import CacheMiss
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.ubatch import BLOCK_CELLS


def why_missed(slot: Slot, choice: Choice) -> CacheMiss:
    """Of a choice that has just got its slot, or more of its prompt from another's work."""
    seq = slot.seq
    if seq.node is None:
        return CacheMiss.OFF
    if choice.n_cached + BLOCK_CELLS >= choice.n_prompt:
        return CacheMiss.NONE
    if seq.n_path > seq.n_computed:
        return CacheMiss.NO_STATE
    return CacheMiss.DIVERGED if choice.n_cached else CacheMiss.COLD
