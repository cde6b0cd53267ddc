"""A vocabulary of bytes and some words, and what a grammar makes of a text in it."""

from __future__ import annotations

from functools import cache

from llguidance import LLTokenizer

from slotmux.runtime.engine.constraint import ConstraintError
from slotmux.server.grammars.matcher import Factory, library_tokenizer
from slotmux.server.grammars.source import source_of
from slotmux.server.grammars.spec import GrammarSpec, Kind

WORDS = (b'{"', b'":', b'"}', b"name", b'": "', b"true", b"", b"  ", "é".encode(), b"<tool>", b"")
SPECIAL = {len(WORDS) + 256: b"<|begin|>", len(WORDS) + 257: b"<|end|>"}


class WordTokenizer:
    """Bytes first, then WORDS, then special tokens; the last ends a text."""

    n_vocab = 256 + len(WORDS) + len(SPECIAL)
    bos_id = None
    eos_id = n_vocab - 1
    eog_ids = frozenset({n_vocab - 1})
    special_ids = frozenset(SPECIAL)

    def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
        if token_id < 256:
            return bytes([token_id])
        return SPECIAL.get(token_id) or WORDS[token_id - 256]

    def all_token_bytes(self) -> list[bytes]:
        return [self.token_bytes(token_id) for token_id in range(self.n_vocab)]

    def encode_inside(self, text: str) -> list[int]:
        """The longest word first."""
        ids, data = [], text.encode()
        while data:
            n, best = 1, data[0]
            for i, word in enumerate(WORDS):
                if len(word) > n and data.startswith(word):
                    n, best = len(word), 256 + i
            ids.append(best)
            data = data[n:]
        return ids


@cache
def tokenizer() -> LLTokenizer:
    return library_tokenizer(WordTokenizer())


def factory(kind: Kind, text: str) -> Factory:
    return Factory(tokenizer(), source_of(GrammarSpec(kind, text)))


def takes(made: Factory, text: str) -> bool:
    """Whether ``text`` is one of a grammar's texts, byte by byte."""
    matcher = made()
    data = text.encode()
    if matcher.n_valid([*data]) < len(data):
        return False
    try:
        for byte in data:
            matcher.consume(byte)
    except ConstraintError:
        return False
    return matcher.n_valid([WordTokenizer.eos_id]) == 1 or matcher.is_stopped
