"""What keeps a command from doing what it was asked."""

from __future__ import annotations

from slotmux.runtime.errors import SlotmuxError


class CommandError(SlotmuxError):
    """A command cannot do what it was asked; the message is for the person who typed it."""
