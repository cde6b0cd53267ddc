"""The bytes that each token stands for, computed when first asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slotmux.runtime.tokenizer.attributes import HIDDEN, Attr
from slotmux.runtime.tokenizer.rwkv import unescape
from slotmux.runtime.tokenizer.vocab import SPACE, Vocab

_AS_WRITTEN = HIDDEN | Attr.USER_DEFINED
_OUTSIDE, _MARK = "\ufffe", "\uffff"  # noncharacters


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte (the `tokenizers` library has no table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


class Pieces:
    """Bytes of tokens by id. Safe on several threads: a piece computed twice is the same."""

    def __init__(self, vocab: Vocab, of_normal: Callable[[str], bytes]) -> None:
        """``of_normal`` turns the text of an ordinary token into bytes."""
        self._vocab = vocab
        self._of_normal = of_normal
        self._shown: list[bytes | None] = [None] * len(vocab.tokens)
        # For detokenizers, by whether they skip special tokens: text by token id.
        self.whole: tuple[dict[int, str], dict[int, str]] = ({}, {})

    def shown(self, token_id: int) -> bytes:
        """Bytes of a token, control tokens by their text. Raises IndexError for a bad id."""
        if token_id < 0:
            raise IndexError(token_id)
        piece = self._shown[token_id]
        if piece is None:
            piece = self._shown[token_id] = self._piece(token_id)
        return piece

    def all(self) -> list[bytes]:
        """``shown`` of every token, much faster than one by one."""
        attrs, of_normal, texts = self._vocab.attrs, self._of_normal, self._vocab.tokens
        if isinstance(of_normal, ByteAlphabet):
            every = of_normal.many(texts)
        else:
            every = [*map(of_normal, texts)]
        is_plain = ((attrs & int(Attr.NORMAL)) != 0) & ((attrs & int(_AS_WRITTEN)) == 0)
        for token_id in np.flatnonzero(~is_plain).tolist():
            every[token_id] = self.shown(token_id)
        return every

    def visible(self, token_id: int) -> bytes:
        """The same, nothing for control and unknown tokens."""
        piece = self.shown(token_id)
        return b"" if self._vocab.attrs[token_id] & int(HIDDEN) else piece

    def _piece(self, token_id: int) -> bytes:
        text, attr = self._vocab.tokens[token_id], self._vocab.attrs[token_id]
        if attr & int(_AS_WRITTEN):
            return text.encode()
        if attr & int(Attr.NORMAL):
            return self._of_normal(text)
        if attr & int(Attr.BYTE):
            return bytes([byte_of(text)])
        return b""  # unused


def byte_of(text: str) -> int:
    """The byte of a token like <0x0A>. Raises ValueError for any other text."""
    if len(text) != 6 or not (text.startswith("<0x") and text.endswith(">")):
        raise ValueError(f"{text[:20]!a} is not a byte token")
    return int(text[3:5], 16)


class ByteAlphabet:
    """For byte-level BPE. A token with a character outside the alphabet stands for itself."""

    def __init__(self) -> None:
        # To the characters that Latin-1 has for the bytes, all others to what it has not.
        self._latin = dict.fromkeys(range(256), _OUTSIDE)
        self._latin |= {ord(char): chr(byte) for byte, char in byte_alphabet().items()}

    def __call__(self, text: str) -> bytes:
        """Bytes of the token ``text``."""
        return _latin_bytes(text.translate(self._latin), text)

    def many(self, texts: list[str]) -> list[bytes]:
        """Bytes of each of ``texts``."""
        joined = _MARK.join(texts)
        if joined.count(_MARK) != len(texts) - 1:
            return [*map(self, texts)]
        return [*map(_latin_bytes, joined.translate(self._latin).split(_MARK), texts)]


def _latin_bytes(latin: str, text: str) -> bytes:
    try:
        return latin.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def of_escaped_spaces(text: str) -> bytes:
    """For SentencePiece-style vocabularies."""
    return text.replace(SPACE, " ").encode()


of_world = unescape  # for RWKV
