"""White space at the end of a text that still comes."""

from __future__ import annotations


class Trailing:
    """What waits until it is known whether anything follows it. Costs what a piece costs, however
    much waits."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def split(self, text: str) -> str:
        """What waited and ``text``, but for the white space at the end, which waits from now on."""
        kept = text.rstrip()
        before = self.take() if kept else ""
        if len(kept) < len(text):
            self._pieces.append(text[len(kept) :])
        return before + kept

    def take(self) -> str:
        """What waited, and waits no more."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text
