"""WordPiece (Schuster & Nakajima 2012), as BERT and its relatives have it: words, then of each the
longest token from the left. In files a token that begins a word begins with "▁".
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks
from slotmux.runtime.tokenizer.spm import SPACE
from slotmux.runtime.tokenizer.vocab import UNK_KEY, Vocab
from slotmux.runtime.tokenizer.words import backend_ids

LOWERCASE_KEY = "tokenizer.ggml.normalizer.lowercase"
STRIP_ACCENTS_KEY = "tokenizer.ggml.normalizer.strip_accents"
_INSIDE = "##"  # the library's mark of a token that goes on with a word
_MAX_WORD_CHARS = 100  # of longer ones BERT's own tokenizer makes the unknown token


class WordPieceEncoder:
    """Plain text (no special tokens) to ids. Immutable; ``encode`` releases the GIL."""

    def __init__(self, metadata: Metadata, vocab: Vocab) -> None:
        """Raises ModelFileError for a vocabulary without an unknown token."""
        if vocab.unk_id is None:
            metadata.refuse(UNK_KEY, "words that no token spells have no token")
        unknown = vocab.tokens[vocab.unk_id]
        lowercase = metadata.get_bool(LOWERCASE_KEY, True)
        self._backend = Backend(
            WordPiece(
                vocab={_as_library(text): token_id for text, token_id in vocab.ids.items()},
                unk_token=_as_library(unknown),
                max_input_chars_per_word=_MAX_WORD_CHARS,
                continuing_subword_prefix=_INSIDE,
            )
        )
        self._backend.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=True,
            strip_accents=metadata.get_bool(STRIP_ACCENTS_KEY, lowercase),
            lowercase=lowercase,
        )
        self._backend.pre_tokenizer = BertPreTokenizer()

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it."""
        for chunk in chunks.chunks(text, chunks.SPACE_BREAK):
            yield backend_ids(self._backend, chunk)


def _as_library(text: str) -> str:
    """A token of the file in BERT's own spelling: the beginning of a word is what has no mark."""
    if text.startswith(SPACE) and len(text) > len(SPACE):
        return text[len(SPACE) :]
    return _INSIDE + text
