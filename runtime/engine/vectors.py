"""Vectors of texts on a model that generates: gathered behind each forward, for requests that want
one. Their tokens go through slots like any prompt's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.interfaces import ModelLike
from slotmux.runtime.pooling import Pooling

F32 = NDArray[np.float32]


@dataclass(slots=True)
class TextVector:
    """What is known of a text's vector so far."""

    pooling: Pooling
    n_tokens: int  # of the text
    n_seen: int = 0  # of them, those whose rows were taken
    total: F32 | None = None
    rows: list[F32] = field(default_factory=list)

    @property
    def most_reused(self) -> int:
        """Tokens that may come from the prefix cache: the others' rows are wanted."""
        needs_all = self.pooling in (Pooling.MEAN, Pooling.CLS, Pooling.NONE)
        return self.n_seen if needs_all else self.n_tokens - 1

    def wanted(self, begin: int, end: int) -> range:
        """Positions between ``begin`` and ``end`` whose rows are wanted."""
        if self.pooling is Pooling.CLS:
            return range(begin, min(end, 1))
        if self.pooling in (Pooling.MEAN, Pooling.NONE):
            return range(max(begin, self.n_seen), min(end, self.n_tokens))
        return range(max(begin, self.n_tokens - 1), min(end, self.n_tokens))

    def take(self, rows: F32) -> None:
        """Rows of the next wanted positions, in their order: sums do not depend on how a text was
        cut into steps."""
        self.n_seen += len(rows)
        if self.pooling is not Pooling.MEAN:
            self.rows.append(rows)
            return
        if self.total is None:
            self.total = np.zeros(rows.shape[1], np.float32)
        for row in rows:
            self.total += row

    def vector(self) -> F32:
        """Once the text is computed."""
        if self.pooling is Pooling.MEAN:
            assert self.total is not None
            mean: F32 = self.total / np.float32(self.n_tokens)
            return mean
        rows = np.concatenate(self.rows)
        return rows if self.pooling is Pooling.NONE else rows[0]


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
