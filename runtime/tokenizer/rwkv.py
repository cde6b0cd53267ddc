"""The RWKV "world" tokenizer: the longest token of the vocabulary at each place, on bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer.vocab import TOKENS_KEY, Vocab

_CHUNK_TOKENS = 1 << 14
_PLAIN_ESCAPES = {"t": b"\t", "n": b"\n", "r": b"\r"}


def unescape(text: str) -> bytes:
    """The bytes that a token's text in the file stands for (\\t \\n \\r \\xHH, \\c is c).

    Raises ValueError for an unfinished or wrong escape."""
    if "\\" not in text:
        return text.encode()
    out = bytearray()
    head, *parts = text.split("\\")
    out += head.encode()
    position = 0
    while position < len(parts):
        part = parts[position]
        if not part:  # an escaped backslash: what follows it is plain
            out += b"\\"
            position += 1
            if position == len(parts):
                raise ValueError("it ends in a backslash")
            out += parts[position].encode()
        elif part[0] == "x":
            if len(part) < 3:
                raise ValueError("it has an unfinished \\x")
            out.append(int(part[1:3], 16))
            out += part[3:].encode()
        else:
            out += _PLAIN_ESCAPES.get(part[0], part[0].encode()) + part[1:].encode()
        position += 1
    return bytes(out)


class LongestMatchEncoder:
    """Plain text (no special tokens) to ids. Immutable, so safe on several threads."""

    def __init__(self, metadata: Metadata, vocab: Vocab) -> None:
        self._ids: dict[bytes, int] = {}
        for token_id, text in enumerate(vocab.tokens):
            try:
                if text:
                    self._ids[unescape(text)] = token_id
            except ValueError as error:
                metadata.refuse(TOKENS_KEY, f"token {token_id} is not well escaped: {error}")
        lengths: defaultdict[bytes, set[int]] = defaultdict(set)
        for token in self._ids:
            lengths[token[:2]].add(len(token))
        # Lengths to try for the next two bytes, longest first.
        self._lengths = {start: sorted(sizes, reverse=True) for start, sizes in lengths.items()}
        self._unknown = vocab.unk_id

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each stretch of it."""
        data = text.encode()
        ids, lengths, unknown = self._ids, self._lengths, self._unknown
        out: list[int] = []
        position = 0
        while position < len(data):
            for size in lengths.get(data[position : position + 2], ()):
                token_id = ids.get(data[position : position + size])
                if token_id is not None:
                    break
            else:
                size, token_id = 1, ids.get(data[position : position + 1], unknown)
            if token_id is not None:
                out.append(token_id)
            position += size
            if len(out) >= _CHUNK_TOKENS:
                yield out
                out = []
        yield out
