"""SentencePiece's unigram model (Kudo 2018) as llama.cpp has it ("t5"): characters are replaced by
the file's own map, then the text is cut where the scores' sum is highest.

The `tokenizers` library does the cutting. It takes any token at any place; a few vocabularies have
tokens for which llama.cpp's rules cannot be told to it: there the definition is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend
from tokenizers.models import Unigram

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks
from slotmux.runtime.tokenizer.attributes import Attr
from slotmux.runtime.tokenizer.deferred import Deferred
from slotmux.runtime.tokenizer.unigram.charsmap import CharsMap, CharsMapError
from slotmux.runtime.tokenizer.vocab import (
    SCORES_KEY,
    SPACE,
    TOKENS_KEY,
    UNK_KEY,
    Vocab,
    read_scores,
)
from slotmux.runtime.tokenizer.words import backend_ids

CHARSMAP_KEY = "tokenizer.ggml.precompiled_charsmap"
MERGE_SPACES_KEY = "tokenizer.ggml.remove_extra_whitespaces"
ADD_SPACE_KEY = "tokenizer.ggml.add_space_prefix"

_FOUND = Attr.NORMAL | Attr.USER_DEFINED | Attr.UNUSED  # kinds of tokens that a text can become
_UNKNOWN_PENALTY = 10.0  # below the lowest score
_NEVER = ""  # the library's text of a token that no text becomes


class UnigramEncoder:
    """Plain text (no special tokens) to ids. Immutable; ``encode`` mostly releases the GIL."""

    def __init__(self, metadata: Metadata, vocab: Vocab) -> None:
        """Raises ModelFileError for a bad map of characters or bad scores, and for a vocabulary
        without normal tokens or an unknown one."""
        if vocab.unk_id is None:
            metadata.refuse(UNK_KEY, "what no token spells has no token")
        self._unk_id = vocab.unk_id
        self._charsmap = _read_charsmap(metadata, vocab)
        self._merges_spaces = metadata.get_bool(MERGE_SPACES_KEY, False)
        self._adds_space = metadata.get_bool(ADD_SPACE_KEY, False)
        scores = read_scores(metadata, len(vocab.tokens))
        if not np.isfinite(scores).all():
            metadata.refuse(SCORES_KEY, "a score is not finite")
        is_normal = (vocab.attrs & int(Attr.NORMAL)).astype(bool)
        if not is_normal.any():
            metadata.refuse(TOKENS_KEY, "no token is a normal one")
        lowest = float(scores[is_normal].min())
        unknown = float(np.float32(lowest) - np.float32(_UNKNOWN_PENALTY))
        scores[(vocab.attrs & int(Attr.USER_DEFINED)).astype(bool)] = 0.0
        self._cutter = Deferred(lambda: _Cutter(vocab, scores, lowest, unknown))

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it."""
        was_unknown = False
        cutter = self._cutter()
        for chunk in chunks.chunks(self.normalize(text), cutter.breaks):
            backend = cutter.backend
            ids = cutter.cut(chunk) if backend is None else backend_ids(backend, chunk)
            if was_unknown and ids[:1] == [self._unk_id]:
                del ids[0]  # a stretch of unknown characters is one token
            if ids:
                was_unknown = ids[-1] == self._unk_id
                yield ids

    def cut(self, text: str) -> list[int]:
        """Ids of a normalized text by the definition."""
        return self._cutter().cut(text)

    def normalize(self, text: str) -> str:
        """What ``text`` is cut as: characters replaced, spaces as "▁", merged and put first where
        the file says so."""
        if self._charsmap is not None:
            text = self._charsmap.apply(text)
        if self._merges_spaces:
            return "".join([SPACE + word for word in text.split(" ") if word])
        if self._adds_space:
            words = text.lstrip(" ")
            text = text[: len(text) - len(words)] + (" " + words if words else "")
        return text.replace(" ", SPACE)


class _Cutter:
    """The library's model, where it can be told the rules, and the definition."""

    def __init__(
        self, vocab: Vocab, scores: npt.NDArray[np.floating], lowest: float, unknown: float
    ) -> None:
        """``lowest``: score of a normal token; ``unknown``: score of a character without one."""
        assert vocab.unk_id is not None
        self._unk_id = vocab.unk_id
        self._unknown = unknown
        self._ids = {vocab.tokens[i]: i for i in vocab.ids_of_kind(_FOUND) if vocab.tokens[i]}
        self._scores: list[float] = scores.tolist()
        self._max_chars = max(map(len, self._ids))
        self.backend = self._build(lowest)
        self.breaks = chunks.whole_tokens_break(self._ids, chunks.ESCAPED_SPACE_BREAK)

    def cut(self, text: str) -> list[int]:
        """Ids of a normalized text by the definition, in O(n * longest token)."""
        sums = [0.0] + [-np.inf] * len(text)
        begins, found = [0] * (len(text) + 1), [self._unk_id] * (len(text) + 1)
        for start in range(len(text)):
            for end in range(start + 1, min(len(text), start + self._max_chars) + 1):
                token_id = self._ids.get(text[start:end])
                score = self._unknown if token_id is None else self._scores[token_id]
                is_choice = token_id is not None or end == start + 1
                if is_choice and sums[start] + score > sums[end]:
                    sums[end], begins[end] = sums[start] + score, start
                    found[end] = self._unk_id if token_id is None else token_id
        ids: list[int] = []
        end = len(text)
        while end:
            if not (ids and ids[-1] == found[end] == self._unk_id):
                ids.append(found[end])
            end = begins[end]
        return ids[::-1]

    def _build(self, lowest: float) -> Backend | None:
        """None if only the definition will do. The library finds tokens of every kind, and counts
        their scores for the unknown one, so what it must not find has no text."""
        vocabulary = [(_NEVER, 0.0)] * len(self._scores)
        for text, token_id in self._ids.items():
            score = self._scores[token_id]
            if score < lowest:  # an unused token, lower than the normal ones
                if len(text) == 1 or score >= len(text) * self._unknown:
                    return None
                continue  # to be made of its characters is better
            vocabulary[token_id] = text, score
        if lowest > 0.0 or vocabulary[self._unk_id][0]:
            return None
        vocabulary[self._unk_id] = _NEVER, self._unknown + _UNKNOWN_PENALTY
        return Backend(Unigram(vocab=vocabulary, unk_id=self._unk_id))


def _read_charsmap(metadata: Metadata, vocab: Vocab) -> CharsMap | None:
    """None if the file has none: then no character is replaced."""
    if CHARSMAP_KEY not in metadata:
        return None
    data = metadata.get_array(CHARSMAP_KEY)
    if data.dtype.itemsize != 1:
        metadata.refuse(CHARSMAP_KEY, f"expected bytes, found {data.dtype.name}")
    kept = [vocab.tokens[i] for i in vocab.ids_of_kind(Attr.USER_DEFINED)]
    try:
        return CharsMap(data.tobytes(), kept)
    except CharsMapError as error:
        metadata.refuse(CHARSMAP_KEY, str(error))
