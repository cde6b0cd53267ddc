"""Vectors of texts on a model that generates: gathered behind each forward, for requests that want
one. Their tokens go through slots like any prompt's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.engine.texts.text_vector import TextVector
from slotmux.runtime.interfaces import ModelLike


class Pooler:
    """Takes rows of the forward for the choices that want them. Engine thread only."""

    def __init__(self, model: ModelLike) -> None:
        self._model = model

    def run(self, active: Sequence[Slot]) -> None:
        """Before the forward is committed. Overwrites the ubatch's output rows."""
        asked: list[tuple[TextVector, int, range]] = []
        for slot in active:
            state = slot.choice.vector if slot.choice is not None else None
            if state is None or not slot.n_planned:
                continue
            begin = slot.seq.n_computed
            positions = state.wanted(begin, begin + slot.n_planned)
            if positions:
                asked.append((state, self._start(slot) - begin, positions))
        if not asked:
            return
        places = [np.arange(p.start, p.stop, dtype=np.int32) + first for _, first, p in asked]
        rows = self._model.vectors(np.concatenate(places))
        at = 0
        for state, _, positions in asked:
            state.take(rows[at : at + len(positions)])
            at += len(positions)

    def _start(self, slot: Slot) -> int:
        """Where in the ubatch a slot's run begins."""
        ub = self._model.ubatch
        return int(ub.seq_start[ub.seq_slot[: ub.n_seqs].tolist().index(slot.id)])
