"""Texts that wait to be encoded, and which of them the next step takes.

Clients get equal numbers of tokens while they want any, and so do the requests of a client: a batch
of a thousand texts holds nobody up. Whoever comes (again) begins with the count of the least
served one that waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from slotmux.runtime.engine.request import Request
from slotmux.runtime.ubatch import I32

LOOK = 32  # texts of a request among which one is sought that still fits into a step


@dataclass(slots=True, eq=False)
class Waiting:
    """A submitted text."""

    request: Request
    tokens: I32
    t_submitted: float


@dataclass(slots=True, eq=False)
class _Share:
    """Tokens that were taken of whoever this is, and what else there is of it."""

    served: float = 0.0
    texts: deque[Waiting] = field(default_factory=deque)  # of a request
    requests: dict[str, _Share] = field(default_factory=dict)  # of a client

    def rank(self) -> tuple[int, float]:
        """Lower is earlier."""
        return (self.texts[0].request.priority if self.texts else 0), self.served


class TextLine:
    """Engine thread only; ``len`` may be asked for anywhere."""

    def __init__(self) -> None:
        self._clients: dict[str, _Share] = {}
        self._n = 0
        self.n_requests = 0  # whose first text waits

    def __len__(self) -> int:
        return self._n

    def add(self, text: Waiting) -> None:
        """At the end of its request's texts."""
        request = text.request
        client = _entered(self._clients, request.client)
        _entered(client.requests, request.label).texts.append(text)
        self._n += 1
        self.n_requests += request.is_first

    def remove(self, request_id: int) -> Waiting | None:
        """Out of the line; None if it is not in it."""
        for text in self:
            if text.request.id == request_id:
                self._take(text)
                return text
        return None

    def __iter__(self) -> Iterator[Waiting]:
        for client in list(self._clients.values()):
            for batch in list(client.requests.values()):
                yield from list(batch.texts)

    def take(self, n_aimed: int, n_most: int, n_texts: int) -> list[Waiting]:
        """The texts of a step: about ``n_aimed`` tokens together; ``n_most`` where one text has
        more. At most ``n_texts``; at least one, if any waits."""
        taken: list[Waiting] = []
        n_left = n_most
        while self._n and n_left > 0 and len(taken) < n_texts:
            text = self._next(n_left)
            if text is None:
                break
            self._take(text)
            taken.append(text)
            n_left = min(n_left, n_aimed) if len(taken) == 1 else n_left
            n_left -= len(text.tokens)
        return taken

    def _next(self, n_left: int) -> Waiting | None:
        """Whose turn it is, with a text of at most ``n_left`` tokens."""
        for client in sorted(self._clients.values(), key=_rank_of_client):
            for batch in sorted(client.requests.values(), key=_Share.rank):
                for i, text in enumerate(batch.texts):
                    if len(text.tokens) <= n_left:
                        return text
                    if i == LOOK:
                        break
        return None

    def _take(self, text: Waiting) -> None:
        request = text.request
        client = self._clients[request.client]
        batch = client.requests[request.label]
        if batch.texts[0] is text:
            batch.texts.popleft()
        else:
            batch.texts.remove(text)
        self._n -= 1
        self.n_requests -= request.is_first
        client.served += len(text.tokens)
        batch.served += len(text.tokens)
        if not batch.texts:
            del client.requests[request.label]
        if not client.requests:
            del self._clients[request.client]


def _rank_of_client(client: _Share) -> tuple[int, float]:
    return min(batch.rank()[0] for batch in client.requests.values()), client.served


def _entered(shares: dict[str, _Share], name: str) -> _Share:
    if name not in shares:
        shares[name] = _Share(min((share.served for share in shares.values()), default=0.0))
    return shares[name]
