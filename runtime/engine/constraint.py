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

    __slots__ = ("_ahead", "_before", "_factory", "_forced", "_is_done", "_matcher", "_words",
                 "fault", "is_over", "is_stuck", "jumps", "masks", "n_masks",
                 "over_at")  # fmt: skip

    def __init__(self, factory: ConstraintFactory, n_vocab: int) -> None:
        self._factory = factory
        self._matcher: MatcherLike | None = None
        self._words = -(-n_vocab // 32)
        # Where the matcher stands: behind the text and the drafts ``_ahead``.
        self._ahead: list[int] = []
        self._before: list[tuple[deque[int], bool]] = []  # the two below, before each of these
        self._forced: deque[int] = deque()
        self._is_done = False
        self.fault: str | None = None  # why it cannot be followed; its choice ends with that
        self.is_over = False  # nothing can be added to the text
        self.is_stuck = False  # behind the run that was accepted there was no token to draw
        self.masks: NDArray[np.uint32] = np.zeros((0, self._words), np.uint32)
        self.n_masks = 0  # rows of ``masks`` that the draws of the step under way go by
        self.jumps: list[int] = []  # forced tokens behind the run that was accepted, consumed
        self.over_at = 0  # after how many tokens of that run the text was complete; 0 = it is not

    def n_valid(self, drafts: Sequence[int]) -> int:
        """How many of ``drafts`` the grammar can follow. Engine thread."""
        if self._matcher is None or self.fault is not None:
            return 0
        try:
            self._return_to(0)
            return self._matcher.n_valid(drafts)
        except ConstraintError as error:
            self.fault = str(error)
            return 0

    def mask(self, i: int) -> int:
        """The address of the mask behind ``i`` drafts; 0: there is none."""
        return self.masks.ctypes.data + i * self.masks.strides[0] if i < self.n_masks else 0

    def prepare(self, drafts: Sequence[int]) -> None:
        """Masks for the next draw and for those behind ``drafts``, as far as these are right.

        What earlier calls found out since ``accept`` is not found out again: drafts may come one
        by one.
        """
        if self._matcher is None:
            self._matcher = self._factory()
            self._look_ahead(self._matcher)
            self.is_over = self._is_done
        n_alike = _n_alike(self._ahead, drafts)
        self._return_to(n_alike)
        self._make_room(1 + len(drafts))
        self.n_masks = min(self.n_masks, 1 + n_alike)
        for i in range(n_alike, 1 + len(drafts)):
            if self._is_done:
                return
            if self.n_masks == i:
                self._fill(self._matcher, self.masks[i])
                self.n_masks = i + 1
            if i == len(drafts) or not _allows(self.masks[i], drafts[i]):
                return
            self._before.append((self._forced.copy(), self._is_done))
            self._ahead.append(drafts[i])
            self._step(self._matcher, drafts[i])

    def accept(self, run: Sequence[int], *, may_jump: bool) -> None:
        """Go on by what was drawn, and where ``may_jump`` by what is forced behind it."""
        matcher = self._matcher
        assert matcher is not None
        self.jumps, self.over_at = [], 0
        n_known = _n_alike(self._ahead, run)
        self._return_to(n_known)
        self._ahead, self._before, self.n_masks = [], [], 0
        for token in run[n_known:]:
            if self._is_done:
                break
            n_known += 1
            self._step(matcher, token)
        if self._is_done:
            self.over_at = n_known
        while may_jump and run and self._forced and len(self.jumps) < MAX_FORCED:
            self.jumps.append(self._forced[0])
            self._step(matcher, self._forced[0])
        self.is_over = self._is_done

    def _return_to(self, n_drafts: int) -> None:
        """Forget the drafts behind the first ones."""
        n_over = len(self._ahead) - n_drafts
        if n_over > 0:
            assert self._matcher is not None
            self._matcher.rollback(n_over)
            self._forced, self._is_done = self._before[n_drafts]
            del self._ahead[n_drafts:], self._before[n_drafts:]

    def _make_room(self, n_masks: int) -> None:
        if len(self.masks) < n_masks:
            masks = np.zeros((n_masks, self._words), np.uint32)
            masks[: self.n_masks] = self.masks[: self.n_masks]
            self.masks = masks

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
        self._is_done = matcher.is_stopped
        if self._is_done:
            self._forced.clear()
        elif not self._forced:
            self._forced.extend(matcher.forced())


def _n_alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


def _allows(mask: NDArray[np.uint32], token: int) -> bool:
    return bool(mask.item(token >> 5) >> (token & 31) & 1)
