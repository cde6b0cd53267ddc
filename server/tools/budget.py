"""A bound on the tokens of a thought: when they are used up, the token that ends it is forced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.constraint import ConstraintFactory, MatcherLike


@dataclass(frozen=True, slots=True)
class ThoughtBudget:
    """A ConstraintFactory around another, whose grammar knows where thoughts may be.

    ``opening`` begins a thought (None: the answer begins inside one), ``closing`` ends it.
    """

    factory: ConstraintFactory
    n_tokens: int
    closing: int
    opening: int | None

    def __call__(self) -> MatcherLike:
        return _Counting(self.factory(), self)


class _Counting:
    """A MatcherLike."""

    __slots__ = ("_budget", "_counts", "_matcher")

    def __init__(self, matcher: MatcherLike, budget: ThoughtBudget) -> None:
        self._matcher, self._budget = matcher, budget
        # Tokens of thought behind each token so far; -1: in no thought, -2: it is over.
        self._counts = [-1 if budget.opening is not None else 0]

    def consume(self, token: int) -> None:
        self._matcher.consume(token)
        self._counts.append(self._next(self._counts[-1], token))

    def rollback(self, n_tokens: int) -> None:
        self._matcher.rollback(n_tokens)
        del self._counts[len(self._counts) - n_tokens :]

    def fill_mask(self, words: NDArray[np.uint32]) -> None:
        if self._ends_now():
            closing = self._budget.closing
            words[:] = 0
            words[closing >> 5] = 1 << (closing & 31)
        else:
            self._matcher.fill_mask(words)

    def forced(self) -> list[int]:
        return [self._budget.closing] if self._ends_now() else self._matcher.forced()

    def n_valid(self, tokens: Sequence[int]) -> int:
        count = self._counts[-1]
        for index, token in enumerate(tokens):
            if count >= self._budget.n_tokens and token != self._budget.closing:
                return min(index, self._matcher.n_valid(tokens))
            count = self._next(count, token)
        return self._matcher.n_valid(tokens)

    @property
    def is_stopped(self) -> bool:
        return self._matcher.is_stopped

    def _next(self, count: int, token: int) -> int:
        if count == -1:
            return 0 if token == self._budget.opening else -1
        if count < 0 or token == self._budget.closing:
            return -2
        return count + 1

    def _ends_now(self) -> bool:
        """A character that was begun ends first."""
        is_used_up = self._counts[-1] >= self._budget.n_tokens
        return is_used_up and self._matcher.n_valid([self._budget.closing]) == 1
