"""SentencePiece-style merging driven by token scores, as llama.cpp does it: the adjacent pair
whose joint text is the token of the highest score merges first, the leftmost of equals.

The `tokenizers` library does it with merges ranked by score. It cannot express tokens of equal
score (runs of spaces in Llama 2 and Phi 3) or with characters that are no tokens, so the few
words with such tokens are merged here.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks
from slotmux.runtime.tokenizer.deferred import Deferred
from slotmux.runtime.tokenizer.merges import find_merges
from slotmux.runtime.tokenizer.partition import trie_pattern
from slotmux.runtime.tokenizer.vocab import SPACE as SPACE
from slotmux.runtime.tokenizer.vocab import Vocab, read_scores
from slotmux.runtime.tokenizer.words import backend_ids

# Longer words (no text has them, only floods of one character) are left to the library.
_MAX_TIED_CHARS = 1 << 13
_WORD = re.compile(f"{SPACE}*[^{SPACE}]*")


@dataclass(frozen=True, slots=True)
class _Merging:
    """What ``encode`` needs."""

    backend: Backend
    tied: re.Pattern[str] | None
    breaks: re.Pattern[str]
    words_are_apart: bool  # no token goes on behind a space


class ScoreEncoder:
    """Plain text (no special tokens) to ids. Immutable, so safe on several threads."""

    def __init__(self, metadata: Metadata, vocab: Vocab) -> None:
        """Raises ModelFileError for missing, too few or non-numeric scores."""
        self._vocab = vocab
        scores = read_scores(metadata, len(vocab.tokens))
        self._scores: list[float] = scores.tolist()
        self._bytes = [vocab.ids.get(f"<0x{byte:02X}>", vocab.unk_id) for byte in range(256)]
        self._merging = Deferred(lambda: _build(vocab, scores))

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it."""
        by = self._merging()
        for chunk in chunks.chunks(text, by.breaks):
            escaped = chunk.replace(" ", SPACE)
            if by.tied is None or not by.tied.search(escaped):
                yield backend_ids(by.backend, escaped)
            else:
                yield from self._encode_tied(escaped, by, by.tied)

    def _encode_tied(self, text: str, by: _Merging, tied: re.Pattern[str]) -> Iterator[list[int]]:
        """Words with tied tokens one by one, what lies between them at once."""
        words = _WORD.finditer(text) if by.words_are_apart else [re.fullmatch(r"(?s).*", text)]
        plain = 0
        for word in words:
            assert word is not None
            start, end = word.span()
            if end - start > _MAX_TIED_CHARS or not tied.search(text, start, end):
                continue
            if plain < start:
                yield backend_ids(by.backend, text[plain:start])
            yield self.merge(text[start:end])
            plain = end
        if plain < len(text):
            yield backend_ids(by.backend, text[plain:])

    def merge(self, text: str) -> list[int]:
        """Ids of ``text`` (spaces already "▁") by the definition, in O(n log n)."""
        symbols: list[str] = list(text)  # "" once merged into the one before
        before = list(range(-1, len(symbols) - 1))
        after = [*range(1, len(symbols)), -1] if symbols else []
        queue: list[tuple[float, int, int, int]] = []

        def propose(left: int, right: int) -> None:
            if left < 0 or right < 0:
                return
            joint = symbols[left] + symbols[right]
            token_id = self._vocab.ids.get(joint)
            if token_id is not None:
                heapq.heappush(queue, (-self._scores[token_id], left, right, len(joint)))

        for right in range(1, len(symbols)):
            propose(right - 1, right)
        while queue:
            _, left, right, size = heapq.heappop(queue)
            if not symbols[left] or not symbols[right]:
                continue
            if len(symbols[left]) + len(symbols[right]) != size:
                continue  # one of them has grown since
            symbols[left] += symbols[right]
            symbols[right] = ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            propose(before[left], left)
            propose(left, after[left])
        return [token_id for symbol in symbols if symbol for token_id in self._ids(symbol)]

    def _ids(self, symbol: str) -> list[int]:
        token_id = self._vocab.ids.get(symbol)
        if token_id is not None:
            return [token_id]
        of_bytes = [self._bytes[byte] for byte in symbol.encode()]
        return [token_id for token_id in of_bytes if token_id is not None]


def _build(vocab: Vocab, scores: npt.NDArray[np.floating]) -> _Merging:
    is_text = np.fromiter(map(bool, vocab.tokens), bool, len(vocab.tokens))
    merges = find_merges([text for text in vocab.tokens if text], scores[is_text])
    unk = None if vocab.unk_id is None else vocab.tokens[vocab.unk_id] or None
    backend = Backend(BPE(vocab=vocab.ids, merges=merges.pairs, unk_token=unk, byte_fallback=True))
    tied = merges.tied | _of_no_tokens(vocab)
    inner = any(SPACE in text.lstrip(SPACE) for text in vocab.tokens)
    return _Merging(
        backend,
        re.compile(trie_pattern(tied)) if tied else None,
        chunks.LINE_BREAK if inner else chunks.SPACE_BREAK,
        words_are_apart=not inner,
    )


def _of_no_tokens(vocab: Vocab) -> set[str]:
    """Tokens with a character that is no token itself, which the library cannot merge."""
    missing = set("".join(vocab.tokens)) - vocab.ids.keys() - {" "}  # no text has spaces left
    return {text for text in vocab.tokens if not missing.isdisjoint(text)} if missing else set()
