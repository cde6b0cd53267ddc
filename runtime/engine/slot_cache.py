"""What a slot's last request left in the cache: saved, restored, erased. Errands of the engine."""

from __future__ import annotations

from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.memory.saved import (
    SavedPrefix,
    erase_prefix,
    restore_prefix,
    save_prefix,
)


class SlotBusyError(SlotmuxError):
    """The slot runs a request."""


class SlotEmptyError(SlotmuxError):
    """The slot's last request left nothing that its owner could use."""


class NoRoomError(SlotmuxError):
    """There is no memory for a prefix beside what runs."""


def save_slot(core: Core, slot_id: int, owner: str) -> SavedPrefix:
    """What the last request of a slot left. ``owner``: what its salt begins with.

    Raises SlotBusyError or SlotEmptyError.
    """
    slot = _idle(core, slot_id)
    salt, n = _left(slot, owner)
    saved = save_prefix(core.memory, slot.history[:n], salt)
    if not len(saved.tokens):
        raise SlotEmptyError("nothing of the slot's last request is in memory any more")
    return saved


def restore_slot(core: Core, slot_id: int, saved: SavedPrefix) -> int:
    """Puts a prefix back, as if the slot's last request had left it; returns its tokens. Raises
    SlotBusyError or NoRoomError."""
    slot = _idle(core, slot_id)
    slot.left = None
    n = restore_prefix(core.memory, slot.seq, saved)
    if not n:
        raise NoRoomError("there is no memory for it beside what runs")
    slot.left = saved.salt, n
    return n


def erase_slot(core: Core, slot_id: int, owner: str) -> int:
    """Forgets what the last request of a slot left, as far as nothing else goes on from it; returns
    how many tokens that were. Raises SlotBusyError."""
    slot = _idle(core, slot_id)
    try:
        salt, n = _left(slot, owner)
    except SlotEmptyError:
        return 0
    slot.left = None
    n_erased = erase_prefix(core.memory, slot.history[:n], salt)
    if core.tier is not None:
        core.tier.forget(salt, slot.history[:n])
    core.admission.on_release()
    return n_erased


def _idle(core: Core, slot_id: int) -> Slot:
    slot = core.slots[slot_id]
    if slot.choice is not None:
        raise SlotBusyError("the slot runs a request")
    return slot


def _left(slot: Slot, owner: str) -> tuple[str, int]:
    if slot.left is None or not slot.left[0].startswith(owner):
        raise SlotEmptyError("the slot holds nothing of this client's")
    return slot.left
