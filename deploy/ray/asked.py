"""What a front asks Ray to route, and what it gets for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Headers = tuple[tuple[bytes, bytes], ...]
LEASE_HEADER = "x-slotmux-lease"
REPLICA_HEADER = "x-slotmux-replica"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request as far as its prompt follows from it."""

    path: str
    headers: Headers
    body: bytes


@dataclass(slots=True)
class Asked:
    """A request that looks for a replica. ``tried``: replicas that refused it or died of it."""

    probe: Probe
    session: str = ""
    tried: set[str] = field(default_factory=set)
    found: dict[str, Found] | None = None  # what replicas answered, once they were asked

    def __reduce__(self) -> tuple[Callable[..., Asked], tuple[Probe]]:
        """What is sent to the replica in a lease: its bytes go another way."""
        return Asked, (Probe(self.probe.path, (), b""),)


@dataclass(frozen=True, slots=True)
class Found:
    """What a replica says of a request: tokens of its prompt, how many of them it has in memory,
    and how many choices it runs and holds back."""

    n_prompt: int
    n_cached: int
    n_busy: int
    n_slots: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A place at a replica, held until the request that names it is over."""

    id: str
    replica: str
    url: str
