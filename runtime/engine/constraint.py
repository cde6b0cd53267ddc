"""What one choice may say: where it is in its grammar, masks of what may follow, what must follow.

The grammar itself stands behind two protocols; nothing here knows of any library.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Forced tokens that one step makes known: a grammar may force any number of them.
MAX_FORCED = 32


class ConstraintError(Exception):
    """The grammar cannot be followed any further; the text is for the client."""


class MatcherLike(Protocol):
    """The state of a grammar within one text. One thread at a time.

    Every method may raise ConstraintError; the matcher is of no use afterwards.
    """

    def consume(self, token: int) -> None:
        """Go on by one token. An end token is taken where the text may end."""

    def rollback(self, n_tokens: int) -> None:
        """Forget the last tokens."""

    def fill_mask(self, words: NDArray[np.uint32]) -> None:
        """Bit i % 32 of word i // 32: whether token i may come next, end tokens among them."""

    def forced(self) -> list[int]:
        """The tokens of the only text that can come next; empty where there is a choice. A
        function of the tokens consumed."""

    def n_valid(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` may follow, one after the other. Changes nothing."""

    @property
    def is_stopped(self) -> bool:
        """Whether the text is complete and nothing can be added."""


class ConstraintFactory(Protocol):
    """A compiled grammar."""

    def __call__(self) -> MatcherLike:
        """A matcher at the beginning of a text. Any thread. Raises ConstraintError."""


class Constraint:
    """The grammar of one choice and where it is in it.

    ``prepare`` and ``accept`` may take their time and run beside the engine thread, which waits for
    them before it looks at anything here. Which tokens are forced is a function of the tokens so
    far: they are the same whether they are drawn one by one through a mask or made known at once.
    """

    __slots__ = ("_factory", "_forced", "_matcher", "_words", "fault", "is_over", "jumps", "masks",
                 "n_masks", "over_at")  # fmt: skip

    def __init__(self, factory: ConstraintFactory, n_vocab: int) -> None:
        self._factory = factory
        self._matcher: MatcherLike | None = None
        self._words = -(-n_vocab // 32)
        self._forced: deque[int] = deque()
        self.fault: str | None = None  # why it cannot be followed; its choice ends with that
        self.is_over = False  # nothing can be added to the text
        self.masks: NDArray[np.uint32] = np.zeros((0, self._words), np.uint32)
        self.n_masks = 0  # rows of ``masks`` that the draws of the step under way go by
        self.jumps: list[int] = []  # forced tokens behind the run that was accepted, consumed
        self.over_at = 0  # after how many tokens of that run the text was complete; 0 = it is not

    def n_valid(self, drafts: Sequence[int]) -> int:
        """How many of ``drafts`` the grammar can follow. Engine thread."""
        if self._matcher is None or self.fault is not None:
            return 0
        try:
            return self._matcher.n_valid(drafts)
        except ConstraintError as error:
            self.fault = str(error)
            return 0

    def prepare(self, drafts: Sequence[int]) -> None:
        """Masks for the next draw and for those behind ``drafts``, as far as these are right."""
        if self._matcher is None:
            self._matcher = self._factory()
            self._look_ahead(self._matcher)
        if len(self.masks) <= len(drafts):
            self.masks = np.zeros((len(drafts) + 1, self._words), np.uint32)
        self.n_masks = 0
        if self.is_over:
            return
        matcher, forced, n_taken = self._matcher, self._forced.copy(), 0
        for i, token in enumerate((*drafts, -1)):
            self._fill(matcher, self.masks[i])
            self.n_masks = i + 1
            if token < 0 or not self.masks[i, token >> 5] >> (token & 31) & 1:
                break
            n_taken += 1
            self._step(matcher, token)
            if self.is_over:
                break
        if n_taken:
            matcher.rollback(n_taken)
            self._forced, self.is_over = forced, False

    def accept(self, run: Sequence[int], *, may_jump: bool) -> None:
        """Go on by what was drawn, and where ``may_jump`` by what is forced behind it."""
        matcher = self._matcher
        assert matcher is not None
        self.jumps, self.over_at = [], 0
        for i, token in enumerate(run):
            self._step(matcher, token)
            if self.is_over:
                self.over_at = i + 1
                return
        while may_jump and run and self._forced and len(self.jumps) < MAX_FORCED:
            self.jumps.append(self._forced[0])
            self._step(matcher, self._forced[0])
            if self.is_over:
                return

    def _fill(self, matcher: MatcherLike, mask: NDArray[np.uint32]) -> None:
        if not self._forced:
            matcher.fill_mask(mask)
            return
        token = self._forced[0]
        mask[:] = 0
        mask[token >> 5] = 1 << (token & 31)

    def _step(self, matcher: MatcherLike, token: int) -> None:
        matcher.consume(token)
        if self._forced:
            assert self._forced[0] == token
            self._forced.popleft()
        self._look_ahead(matcher)

    def _look_ahead(self, matcher: MatcherLike) -> None:
        self.is_over = matcher.is_stopped
        if self.is_over:
            self._forced.clear()
        elif not self._forced:
            self._forced.extend(matcher.forced())
