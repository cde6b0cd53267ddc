"""Guesses that keep to grammars: masks for each pass of a chain, made while the pass computes."""

from __future__ import annotations

from collections.abc import Sequence

from slotmux.runtime.engine.masks import Masks, live_constraint
from slotmux.runtime.engine.slots import Slot


class Guide:
    """A GuideLike over the slots of one chain, in its order. Engine thread only.

    A grammar is asked what may follow the text, then what may follow each guess; its choice's draws
    go by the same masks when they verify the guesses.
    """

    __slots__ = ("_asked", "_constraints", "_drafts", "_masks", "_n_seqs")

    def __init__(self, masks: Masks, slots: Sequence[Slot]) -> None:
        self._masks = masks
        self._constraints = [live_constraint(slot) for slot in slots]
        self._drafts: list[list[int]] = [[] for _ in slots]
        self._asked = [constraint is not None for constraint in self._constraints]
        self._n_seqs = 0

    def begin(self, n_seqs: int, drawn: Sequence[int]) -> None:
        self._n_seqs = n_seqs
        for i, constraint in enumerate(self._constraints[:n_seqs]):
            if constraint is None or not self._asked[i]:
                continue
            drafts = self._drafts[i]
            if drawn:
                drafts.append(drawn[i])
            self._asked[i] = drawn[i] >= 0 if drawn else True
            if self._asked[i]:
                self._masks.start(constraint, tuple(drafts))

    def join(self) -> list[int]:
        self._masks.wait()
        addresses = [0] * self._n_seqs
        for i, constraint in enumerate(self._constraints[: self._n_seqs]):
            if constraint is not None and self._asked[i]:
                addresses[i] = constraint.mask(len(self._drafts[i]))
                # Without one the text is over: what is guessed from here on is no draft.
                self._asked[i] = addresses[i] > 0
        return addresses

    def n_followed(self, i: int, tokens: Sequence[int]) -> int:
        """How many of what was guessed for sequence ``i`` its grammar can follow."""
        return (
            len(tokens) if self._constraints[i] is None or self._asked[i] else len(self._drafts[i])
        )
