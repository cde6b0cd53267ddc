"""Whose turn it is among clients: deficit round robin over tokens, in its continuous form.

Each client has a count of tokens that were computed for it. Among those with something waiting the
least served one is next, and of equals the one whose turn is longest ago: everybody gets the same
number of tokens while everybody wants some. A client that comes (back) begins with the count of the
least served one that is there, so that nobody saves up turns by staying away, and a client that has
nothing waiting and nothing running is forgotten: clients choose their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Tokens that a choice is expected to generate, until it is known; most answers are shorter.
EXPECTED_TOKENS = 256


@dataclass(slots=True)
class _Client:
    served: float = 0.0
    turn: int = 0  # when it was last served
    n_present: int = 0  # choices waiting or running


class Fairness:
    """Counts of tokens by client. Engine thread only."""

    __slots__ = ("_clients", "_turn")

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._turn = 0

    def __len__(self) -> int:
        """Clients with something waiting or running."""
        return len(self._clients)

    def enter(self, name: str) -> None:
        """One more choice of a client is there."""
        client = self._clients.get(name)
        if client is None:
            least = min((c.served for c in self._clients.values()), default=0.0)
            client = self._clients[name] = _Client(least)
        client.n_present += 1

    def leave(self, name: str) -> None:
        """Undo one ``enter``."""
        client = self._clients[name]
        client.n_present -= 1
        if not client.n_present:
            del self._clients[name]

    def charge(self, name: str, n_tokens: int) -> None:
        """Tokens are computed for a client that is there; negative: fewer than were expected."""
        self._turn += 1
        client = self._clients[name]
        client.served += n_tokens
        client.turn = self._turn

    def interleave(self, costs: Mapping[str, Sequence[int]], n: int) -> list[str]:
        """Whose the next ``n`` turns are, if client c takes items of ``costs[c]`` tokens in order:
        a name for each item."""
        served = {name: self._rank(name) for name in costs}
        at = dict.fromkeys(costs, 0)
        turns: list[str] = []
        while served and len(turns) < n:
            name = min(served, key=lambda c: served[c])
            turns.append(name)
            tokens, turn = served[name]
            served[name] = (tokens + costs[name][at[name]], turn + 1)
            at[name] += 1
            if at[name] == len(costs[name]):
                del served[name]
        return turns

    def _rank(self, name: str) -> tuple[float, int]:
        client = self._clients[name]
        return client.served, client.turn
