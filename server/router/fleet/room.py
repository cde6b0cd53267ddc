"""One memory budget, and one number of places, for all models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from slotmux.server.router.fleet.changes import Changes
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.fleet.refusals import no_place, no_room, too_large

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


class RoomMaker:
    """Lets models have memory in the order in which they ask. ``unload`` begins to."""

    def __init__(
        self,
        room: Room,
        members: Mapping[str, Member],
        changes: Changes,
        unload: Callable[[Member, str], None],
    ) -> None:
        self._room = room
        self._members = members
        self._changes = changes
        self._unload = unload
        self._line = asyncio.Lock()

    async def reserve(
        self, member: Member, parts: str, timeout_s: float, *, is_ordered: bool
    ) -> None:
        """Returns when ``member`` has what it plans, or raises ApiError: when that can never be, is
        not in time, or when nobody waits for it any more and nobody ordered it."""
        leaving: list[Member] = []
        deadline = time.monotonic() + timeout_s
        async with self._line:
            try:
                while not self._room.fits(member, self._members.values()):
                    self._room.check(member, parts, self._members.values())
                    self._give_way(member, leaving)
                    is_wanted = is_ordered or member.n_waiting
                    left = deadline - time.monotonic()
                    if not (is_wanted and await self._changes.wait(left)):
                        raise no_room(member, timeout_s)
                member.n_bytes = member.n_planned
            finally:
                for other in leaving:
                    other.is_leaving = False
                self._changes.notify()

    def _give_way(self, member: Member, leaving: list[Member]) -> None:
        """Has as many others go as needed: idle ones now, busy ones once they are idle."""
        going = (Status.UNLOADING, Status.UNLOADED)
        while True:
            others = self._members.values()
            staying = [m for m in others if m.status not in going and not m.is_leaving]
            victim = to_unload(staying)
            if self._room.fits(member, staying) or victim is None:
                return
            if victim.is_idle:
                self._unload(victim, "room")
            else:
                victim.is_leaving = True
                leaving.append(victim)
