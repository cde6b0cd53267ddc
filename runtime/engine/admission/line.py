"""The line of waiting choices, and in which order they are tried."""

from __future__ import annotations

from bisect import insort
from itertools import groupby

from slotmux.runtime.engine.admission.fairness import EXPECTED_TOKENS, Fairness
from slotmux.runtime.engine.choice import Choice

# Choices that are looked at for one that fits, behind one that does not.
MAX_TRIED = 64


class Line:
    """Waiting choices. Parked ones come first, in order of arrival: they were served before. New
    ones by priority (lower is earlier), then in turns by client, then in order of arrival."""

    __slots__ = ("_fairness", "_new", "_parked")

    def __init__(self, fairness: Fairness) -> None:
        self._fairness = fairness
        self._parked: list[Choice] = []
        self._new: list[Choice] = []

    def __len__(self) -> int:
        return len(self._parked) + len(self._new)

    def add(self, choice: Choice) -> None:
        """Put a choice into the line at its place."""
        line = self._parked if choice.was_admitted else self._new
        insort(line, choice, key=lambda c: c.serial)

    def remove(self, choice: Choice) -> None:
        (self._parked if choice.was_admitted else self._new).remove(choice)

    def all(self) -> list[Choice]:
        """A copy, parked ones first, each in order of arrival."""
        return [*self._parked, *self._new]

    def oldest_new(self) -> Choice | None:
        """The first to arrive whose request has not begun."""
        return next((choice for choice in self._new if choice.is_new), None)

    def order(self) -> list[Choice]:
        """Choices in the order in which they are tried, as many as are tried at once."""
        order = self._parked[:MAX_TRIED]
        if len(order) == MAX_TRIED or not self._new:
            return order
        if len(self._fairness) == 1 and len({c.priority for c in self._new}) == 1:
            return order + self._new[: MAX_TRIED - len(order)]
        by_priority = sorted(self._new, key=lambda c: (c.priority, c.serial))
        for _, group in groupby(by_priority, key=lambda c: c.priority):
            order += self._in_turns(list(group), MAX_TRIED - len(order))
        return order

    def _in_turns(self, choices: list[Choice], n: int) -> list[Choice]:
        lines: dict[str, list[Choice]] = {}
        for choice in choices:
            lines.setdefault(choice.client, []).append(choice)
        costs = {client: list(map(cost, line)) for client, line in lines.items()}
        at = {client: iter(line) for client, line in lines.items()}
        return [next(at[client]) for client in self._fairness.interleave(costs, n)]


def cost(choice: Choice) -> int:
    """Tokens that a choice is expected to need when it begins, if nothing of it is cached."""
    return choice.n_prompt + expected_tokens(choice)


def expected_tokens(choice: Choice) -> int:
    """How many it will probably generate."""
    return min(EXPECTED_TOKENS, choice.n_limit - choice.n_prompt)
