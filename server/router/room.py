"""One memory budget, and one number of places, for all models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slotmux.server.router.member import Member
from slotmux.server.router.refusals import no_place, too_large

# The router itself, with its interpreter.
ROUTER_BYTES = 100 * 10**6


@dataclass(frozen=True, slots=True)
class Room:
    """What all models may take together. ``n_models``: processes at a time; 0: any number."""

    n_bytes: int
    n_models: int = 0

    def fits(self, member: Member, members: Iterable[Member]) -> bool:
        """Whether ``member`` can be loaded beside those that have memory now."""
        others = [other for other in members if other is not member and other.n_bytes]
        if self.n_models and len(others) >= self.n_models:
            return False
        return sum(other.n_bytes for other in others) + member.n_planned <= self.n_bytes

    def check(self, member: Member, parts: str, members: Iterable[Member]) -> None:
        """Raises ApiError 400 if it does not fit even with all but pinned models gone."""
        pinned = [m for m in members if m.spec.is_pinned and m is not member and m.n_bytes]
        if self.n_models and len(pinned) >= self.n_models:
            raise no_place(member, self.n_models)
        n_pinned = sum(m.n_bytes for m in pinned)
        if n_pinned + member.n_planned > self.n_bytes:
            raise too_large(member, parts, self.n_bytes, n_pinned)


def to_unload(members: Iterable[Member]) -> Member | None:
    """The model to give up next: the least recently used of those that nobody uses, else of those
    that are in use; None where there is none but pinned ones and those that go already."""
    # One that has just been loaded serves those who waited for it first.
    loaded = [m for m in members if m.is_serving and not (m.spec.is_pinned or m.n_waiting)]
    return min(loaded, key=lambda member: (member.n_running > 0, member.last_used), default=None)
