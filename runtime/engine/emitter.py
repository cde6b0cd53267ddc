"""From generated tokens to text for the client: stop strings, and the text held back for them."""

from __future__ import annotations

from collections.abc import Iterable

from slotmux.runtime.interfaces import DetokenizerLike


class Emitter:
    """The text of one choice. A stop string is found wherever token borders fall in it.

    Text that may turn out to be the beginning of a stop string is held back until it is decided.
    """

    __slots__ = ("_detokenizer", "_firsts", "_held", "_include_stop", "_longest", "_stops")

    def __init__(
        self, detokenizer: DetokenizerLike, stops: tuple[str, ...], *, include_stop: bool
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._include_stop = include_stop
        self._firsts = frozenset(stop[0] for stop in stops)
        self._longest = max(map(len, stops), default=0)
        self._held = ""

    @property
    def has_stops(self) -> bool:
        """Whether there is any stop string."""
        return bool(self._stops)

    def push_all(self, token_ids: Iterable[int]) -> str:
        """Add tokens where there is no stop string; returns the text to send."""
        return "".join(map(self._detokenizer.push, token_ids))

    def push(self, token_id: int, *, may_stop: bool) -> tuple[str, str | None]:
        """Add a token; returns the text to send and the stop string that ends it, if one does.

        ``may_stop`` False (below min_tokens) lets stop strings pass as text.
        """
        text = self._detokenizer.push(token_id)
        if not self._stops:
            return text, None
        if not text:
            return "", None
        text = self._held + text
        self._held = ""
        if may_stop and (found := self._find_stop(text)) is not None:
            begin, stop = found
            return text[: begin + len(stop) * self._include_stop], stop
        end = self._undecided_from(text)
        self._held = text[end:]
        return text[:end], None

    def _undecided_from(self, text: str) -> int:
        """Where the longest end of ``text`` begins with which a stop string may be starting."""
        for i in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[i] in self._firsts:
                rest = text[i:]
                if any(len(s) > len(rest) and s.startswith(rest) for s in self._stops):
                    return i
        return len(text)

    def _find_stop(self, text: str) -> tuple[int, str] | None:
        """The stop string that ends first; of those the longest. So token borders do not matter."""
        found = [(i + len(s), i, s) for s in self._stops if (i := text.find(s)) >= 0]
        if not found:
            return None
        _, begin, stop = min(found)
        return begin, stop

    def flush(self) -> str:
        """The rest: held-back text and an unfinished character. Empty after a stop string."""
        text = self._held + self._detokenizer.flush()
        self._held = ""
        return text
