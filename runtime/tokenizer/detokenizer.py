"""Streaming detokenization: whole characters only, and the same text as decoding at once."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from slotmux.runtime.tokenizer.tokenizer import Tokenizer


class Detokenizer:
    """Text of one token stream. Belongs to one thread at a time."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        pieces = tokenizer.pieces
        self._pieces = pieces
        self._shown: dict[int, str] = {}  # control tokens that are seen all the same
        self._piece = pieces.visible if skip_special else pieces.shown
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # Text of tokens that are whole characters, of all streams of this tokenizer.
        self._whole = pieces.whole[skip_special]
        self._is_between = True  # no begun character is held back

    def show(self, token_ids: Iterable[int]) -> None:
        """From now on these control tokens have their text."""
        for token_id in token_ids:
            self._shown[token_id] = self._pieces.shown(token_id).decode("utf-8", "replace")

    def push(self, token_id: int) -> str:
        """The text that ``token_id`` completes, U+FFFD for bytes that are not UTF-8."""
        if token_id in self._shown:
            return self.flush() + self._shown[token_id]
        if self._is_between:
            text = self._whole.get(token_id)
            if text is not None:
                return text
        return self._push_bytes(token_id)

    def flush(self) -> str:
        """What is left of a begun character at the end of the stream: U+FFFD or nothing."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._is_between = True
        return text

    def _push_bytes(self, token_id: int) -> str:
        piece = self._piece(token_id)
        was_between = self._is_between
        text = self._decoder.decode(piece)
        self._is_between = not self._decoder.getstate()[0]
        if was_between and self._is_between:
            self._whole[token_id] = text
        return text
