"""Sharing work that is under way: a prompt whose next tokens another slot is computing waits for
those and takes them over, instead of computing them beside it.

Whoever waits does so for a slot that was filled earlier, so nobody waits in a circle.
When that slot has come to the end of what the two have in common, or is gone, the one that waited
takes what memory holds of its prompt by then and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from slotmux.runtime.engine.misses import missed_by
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.engine.stats import Counters
from slotmux.runtime.memory import Memory
from slotmux.runtime.ubatch import BLOCK_CELLS, I32

MIN_TOKENS = 32  # fewer are not worth waiting for


class Sharing:
    """Who waits for whom. Engine thread only."""

    def __init__(self, memory: Memory, counters: Counters) -> None:
        self._memory = memory
        self._counters = counters
        self._n_turns = 0

    def begin(self, slot: Slot, active: Iterable[Slot]) -> None:
        """A slot has been filled: choose among the active ones whom it follows."""
        self._n_turns += 1
        slot.turn = self._n_turns
        self._choose(slot, active)

    def _choose(self, slot: Slot, active: Iterable[Slot]) -> None:
        choice = slot.choice
        assert choice is not None
        if slot.seq.node is None or choice.is_scored or choice.vector:  # whose own rows are wanted
            return
        best, n_best = None, slot.seq.n_computed + MIN_TOKENS - 1
        for other in active:
            if other.turn >= slot.turn or other.seq.node is None:
                continue
            if other.seq.salt != slot.seq.salt:
                continue
            n = _n_shared(slot, other)
            if n > max(n_best, other.seq.n_computed):
                best, n_best = other, n
        if best is not None:
            slot.ahead, slot.ahead_turn, slot.ahead_end = best, best.turn, n_best
            if slot.seq.row >= 0:
                best.want_split(n_best)

    def is_waiting(self, slot: Slot, active: Iterable[Slot]) -> bool:
        """Whether a slot waits for one ahead. At the end of the wait it takes over what there is,
        and looks for another that is further."""
        ahead = slot.ahead
        if ahead is None:
            return False
        if ahead.turn == slot.ahead_turn and ahead.seq.n_computed < slot.ahead_end:
            self._show_progress(slot, ahead)
            return True
        slot.ahead = None
        self._take_over(slot)
        self._choose(slot, active)
        return slot.ahead is not None

    def _take_over(self, slot: Slot) -> None:
        choice = slot.choice
        assert choice is not None
        n_before = slot.seq.n_computed
        n_taken = self._memory.adopt(slot.seq, slot.n_known) - n_before
        if n_taken <= 0:
            return
        slot.skip_splits()
        if not choice.n_generated:
            choice.n_cached = min(choice.n_cached + n_taken, choice.n_prompt)
            choice.missed = missed_by(slot, choice)
            self._counters.n_prompt_tokens_cached += n_taken
            choice.job.request.progress.n_computed = slot.seq.n_computed

    def _show_progress(self, slot: Slot, ahead: Slot) -> None:
        """What the one ahead has computed is progress of this one too."""
        choice = slot.choice
        assert choice is not None
        progress = choice.job.request.progress
        progress.n_computed = max(progress.n_computed, ahead.seq.n_computed)


def _n_shared(slot: Slot, other: Slot) -> int:
    """Tokens in whole blocks that both begin with and the one still has to compute."""
    n = min(slot.n_known - 1, other.n_known - 1) // BLOCK_CELLS * BLOCK_CELLS
    return _n_alike(slot.history[:n], other.history[:n]) // BLOCK_CELLS * BLOCK_CELLS


def _n_alike(a: I32, b: I32) -> int:
    differs = a != b
    first = int(np.argmax(differs)) if differs.size else 0
    return first if differs.size and differs[first] else len(a)
