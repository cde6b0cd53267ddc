"""Byte-pair merging with the `tokenizers` library: words from patterns, ids from merges."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import Regex
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks
from slotmux.runtime.tokenizer.pretokenize import PreTokenizer
from slotmux.runtime.tokenizer.vocab import Vocab

MERGES_KEY = "tokenizer.ggml.merges"


class WordEncoder:
    """Plain text (no special tokens) to ids. Immutable; ``encode`` releases the GIL."""

    def __init__(self, backend: Backend, breaks: re.Pattern[str], spaces_as: str = " ") -> None:
        self._backend = backend
        self._breaks = breaks
        self._spaces_as = spaces_as

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it."""
        for chunk in chunks.chunks(text, self._breaks):
            yield backend_ids(self._backend, chunk.replace(" ", self._spaces_as))


def backend_ids(backend: Backend, text: str) -> list[int]:
    """Ids of one text. The batch call releases the GIL and skips offsets; ``encode`` does not."""
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids


def byte_level_encoder(metadata: Metadata, vocab: Vocab, words: PreTokenizer) -> WordEncoder:
    """BPE over GPT-2's byte alphabet. Raises ModelFileError for merges that cannot be."""
    model = _bpe(metadata, vocab, ignore_merges=words.ignore_merges)
    backend = Backend(model)
    splits = [Split(Regex(pattern), "isolated") for pattern in words.patterns]
    backend.pre_tokenizer = Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])
    return WordEncoder(backend, _breaks(words))


def line_encoder(metadata: Metadata, vocab: Vocab, words: PreTokenizer) -> WordEncoder:
    """BPE over plain UTF-8 with "▁" for spaces and byte fallback (Gemma 4)."""
    backend = Backend(_bpe(metadata, vocab, byte_fallback=True))
    backend.pre_tokenizer = Sequence(
        [Split(Regex(pattern), "isolated") for pattern in words.patterns]
    )
    return WordEncoder(backend, _breaks(words), spaces_as="▁")


def _breaks(words: PreTokenizer) -> re.Pattern[str]:
    return chunks.LINE_BREAK if words.joins_words else chunks.WORD_BREAK


def _bpe(metadata: Metadata, vocab: Vocab, **options: bool) -> BPE:
    merges = _read_merges(metadata)
    if len(vocab.ids) < len(vocab.tokens):  # some have lost their text, and their merges with it
        merges = [pair for pair in merges if {*pair, "".join(pair)} <= vocab.ids.keys()]
    try:
        return BPE(vocab=vocab.ids, merges=merges, **options)
    except Exception as error:  # the library raises this very class
        # It names the token that a merge has and the vocabulary has not.
        metadata.refuse(MERGES_KEY, str(error))


def _read_merges(metadata: Metadata) -> list[tuple[str, str]]:
    pairs: dict[tuple[str, str], None] = {}  # of a repeated merge the first counts
    for rank, merge in enumerate(metadata.get_strings(MERGES_KEY)):
        cut = merge.find(" ", 1)  # a token may begin with a space
        if cut < 0 or cut == len(merge) - 1:
            metadata.refuse(MERGES_KEY, f"merge {rank} is not two tokens with a space between")
        pairs[merge[:cut], merge[cut + 1 :]] = None
    return list(pairs)
