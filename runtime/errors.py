"""Errors that a caller of the runtime is meant to handle, and whose fault they are."""

from __future__ import annotations


class SlotmuxError(Exception):
    """Base of the errors a caller of the runtime is meant to handle."""


class ConfigError(SlotmuxError):
    """The operator's choice cannot be served; ``field`` names the field of the configuration, and
    ``reason`` continues a sentence that begins with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason
