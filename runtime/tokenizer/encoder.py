"""What every kind of tokenizer has to offer: plain text to ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class TextEncoder(Protocol):
    """Plain text to ids, a list at a time."""

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text`` without special tokens."""
