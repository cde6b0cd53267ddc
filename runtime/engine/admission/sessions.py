"""Which slot a session had last: its next request gets it again if it is free. Never waits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from slotmux.runtime.engine.slots import Slot

MAX_SESSIONS = 4096


class Sessions:
    """The last slot of each of the sessions heard of last. Engine thread only.

    A slot changes nothing in an answer, and prefixes are found from any: affinity is for those who
    watch slots, and for what is kept by slot.
    """

    __slots__ = ("_had_by_one", "_slot_of")

    def __init__(self) -> None:
        self._slot_of: OrderedDict[str, int] = OrderedDict()
        self._had_by_one: set[int] = set()  # slots that a session had last

    def __len__(self) -> int:
        return len(self._slot_of)

    def pick(self, session: str, free: Sequence[Slot]) -> Slot:
        """One of ``free``, which is not empty: the session's last one, else one that no session
        had last, else the first."""
        last = self._slot_of.get(session, -1)
        own = next((slot for slot in free if slot.id == last), None)
        if own is not None:
            return own
        return next((slot for slot in free if slot.id not in self._had_by_one), free[0])

    def note(self, session: str, slot: Slot) -> None:
        """``slot`` was given to a request of ``session``; '' is no session."""
        if not session:
            self._had_by_one.discard(slot.id)
            return
        self._had_by_one.add(slot.id)
        self._slot_of[session] = slot.id
        self._slot_of.move_to_end(session)
        if len(self._slot_of) > MAX_SESSIONS:
            self._slot_of.popitem(last=False)
