"""Whose turn it is among clients: deficit round robin over tokens, in its continuous form.

Each client has a count of tokens that were computed for it. Among those with something waiting the
least served one is next, and of equals the one whose turn is longest ago: everybody gets the same
number of tokens while everybody wants some. A client that has nothing waiting saves up no turns:
when it wants something (again) it begins with the count of the least served one that waits, or of
the last that began (start-time fair queueing, Goyal et al. 1996). One that has nothing waiting and
nothing running is forgotten: clients choose their names.
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
    n_waiting: int = 0  # of them, those that have yet to begin


class Fairness:
    """Counts of tokens by client. Engine thread only."""

    __slots__ = ("_clients", "_last", "_turn")

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._last = 0.0  # the count of the last client of which something began, before that
        self._turn = 0

    def __len__(self) -> int:
        """Clients with something waiting or running."""
        return len(self._clients)

    def enter(self, name: str) -> None:
        """One more choice of a client waits."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client()
        if not client.n_waiting:
            waiting = [c.served for c in self._clients.values() if c.n_waiting]
            client.served = max(client.served, min(waiting, default=self._last))
        client.n_present += 1
        client.n_waiting += 1

    def begin(self, name: str, n_tokens: int) -> None:
        """One of its waiting choices begins, for which so many tokens will be computed."""
        client = self._clients[name]
        client.n_waiting -= 1
        self._last = client.served
        self.charge(name, n_tokens)

    def leave(self, name: str, *, has_begun: bool) -> None:
        """One of its choices has ended."""
        client = self._clients[name]
        client.n_present -= 1
        client.n_waiting -= not has_begun
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
