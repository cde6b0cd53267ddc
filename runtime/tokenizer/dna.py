"""Texts with DNA in them (Carbon's "hybriddna"): between <dna> and </dna> six bases are a token,
around it byte-level BPE."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slotmux.runtime.tokenizer.encoder import TextEncoder
from slotmux.runtime.tokenizer.vocab import Vocab

# Ends a token of six bases in the file, which could have its text twice otherwise.
KMER_MARK = "\ue000"
_K = 6
_OPEN, _CLOSE, _OTHER = "<dna>", "</dna>", "<oov>"
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_CHUNK_TOKENS = 1 << 14


class DnaEncoder:
    """Plain text (no special tokens) to ids. Immutable, so safe on several threads."""

    def __init__(self, around: TextEncoder, vocab: Vocab) -> None:
        """``around`` encodes what is not DNA, all of it if the vocabulary has no tags."""
        self._around = around
        self._ids = vocab.ids
        self._tags = tuple(vocab.ids.get(tag) for tag in (_OPEN, _CLOSE, _OTHER))

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each stretch of it."""
        begin, end, other = self._tags
        if begin is None or end is None or other is None:
            yield from self._around.encode(text)
            return
        for part in re.split(f"({_OPEN}.*?(?:{_CLOSE}|\\Z))", text, flags=re.DOTALL):
            if not part.startswith(_OPEN):
                if part:
                    yield from self._around.encode(part)
                continue
            is_closed = part.endswith(_CLOSE)
            yield [begin]
            yield from self._kmers(part[len(_OPEN) : -len(_CLOSE) if is_closed else None], other)
            if is_closed:
                yield [end]

    def _kmers(self, bases: str, other: int) -> Iterator[list[int]]:
        """The last six are filled up with A; six bytes that are no bases are ``other``."""
        # By bytes, as llama.cpp cuts them: no other text has a token, so only the count matters.
        data = bases.translate(_UPPER).encode().decode("latin-1")
        data += "A" * (-len(data) % _K)
        step = _K * _CHUNK_TOKENS
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            kmers = (piece[at : at + _K] + KMER_MARK for at in range(0, len(piece), _K))
            yield [self._ids.get(kmer, other) for kmer in kmers]
