"""PLaMo 2's tokenizer: a text is cut where the sum of the tokens' scores is highest, of equal
sums where the first token is longest; what no token spells becomes bytes.

PLaMo goes through a text from its end. The `tokenizers` library goes from the beginning and keeps
the longer of equals, so texts and tokens are turned round for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend
from tokenizers.models import Unigram

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks
from slotmux.runtime.tokenizer.attributes import Attr
from slotmux.runtime.tokenizer.deferred import Deferred
from slotmux.runtime.tokenizer.vocab import SCORES_KEY, TOKENS_KEY, Vocab, read_scores
from slotmux.runtime.tokenizer.words import backend_ids

_SCALE = 1e4  # scores are added as integers
_UNKNOWN = -10_000_000.0  # of a character without a token, at that scale
_PENALTY = 10.0  # what the library puts between the lowest score and the unknown token's
_LIMIT = float(1 << 31)
_BOM = "\ufeff"


class PlamoEncoder:
    """Plain text (no special tokens) to ids. Immutable; ``encode`` releases the GIL."""

    def __init__(self, metadata: Metadata, vocab: Vocab) -> None:
        """Raises ModelFileError for a missing byte token, and for bad scores."""
        self._bytes = _byte_ids(metadata, vocab)
        scores = _read_scores(metadata, vocab)
        self._unknown = len(vocab.tokens)
        self._cutting = Deferred(lambda: _build(vocab, scores))

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it. A byte order mark before it is dropped."""
        backend, breaks = self._cutting()
        for chunk in chunks.chunks(text.removeprefix(_BOM), breaks):
            ids = backend_ids(backend, chunk[::-1])
            if self._unknown in ids:
                ids = self._with_bytes(backend, chunk[::-1])
            ids.reverse()
            yield ids

    def _with_bytes(self, backend: Backend, text: str) -> list[int]:
        """Ids of a text turned round, what no token spells as bytes turned round."""
        encoding = backend.encode_batch([text], add_special_tokens=False)[0]
        ids: list[int] = []
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token_id != self._unknown:
                ids.append(token_id)
            else:
                ids += [self._bytes[byte] for byte in reversed(text[start:end][::-1].encode())]
        return ids


def _build(vocab: Vocab, scores: npt.NDArray[np.floating]) -> tuple[Backend, re.Pattern[str]]:
    """The library's model, whose last token is the unknown one, and where no token spans."""
    # llama.cpp's converter gives what fills up a vocabulary the unknown character's score: to find
    # such a token ends llama.cpp's search for others.
    is_found = (scores > _UNKNOWN + _PENALTY) & ((vocab.attrs & int(Attr.BYTE)) == 0)
    found = np.flatnonzero(is_found).tolist()
    vocabulary = [("", 0.0)] * len(vocab.tokens) + [("", _UNKNOWN + _PENALTY)]
    for token_id in found:
        vocabulary[token_id] = vocab.tokens[token_id][::-1], float(scores[token_id])
    texts = [vocab.tokens[token_id] for token_id in found]
    breaks = chunks.whole_tokens_break(texts, chunks.LINE_BREAK)
    return Backend(Unigram(vocab=vocabulary, unk_id=len(vocab.tokens))), breaks


def _byte_ids(metadata: Metadata, vocab: Vocab) -> list[int]:
    ids = [vocab.ids.get(f"<0x{byte:02X}>", -1) for byte in range(256)]
    for byte, token_id in enumerate(ids):
        if token_id < 0 or not vocab.attrs[token_id] & int(Attr.BYTE):
            metadata.refuse(TOKENS_KEY, f"the byte token <0x{byte:02X}> is missing")
    return ids


def _read_scores(metadata: Metadata, vocab: Vocab) -> npt.NDArray[np.floating]:
    """Rounded at their scale, half away from zero."""
    scores = read_scores(metadata, len(vocab.tokens)) * _SCALE
    if (np.isfinite(scores) & (np.abs(scores) >= _LIMIT)).any():
        metadata.refuse(SCORES_KEY, "a score has more than 2^31 ten-thousandths")
    rounded: npt.NDArray[np.floating] = np.trunc(scores + np.copysign(0.5, scores))
    return rounded
