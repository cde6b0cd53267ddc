"""Byte-pair merging with the `tokenizers` library: words from patterns, ids from merges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tokenizers import Regex, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks, pretokenize
from slotmux.runtime.tokenizer.encoder import TextEncoder
from slotmux.runtime.tokenizer.pretokenize import Spelling
from slotmux.runtime.tokenizer.vocab import SPACE, Vocab

MERGES_KEY = "tokenizer.ggml.merges"
LOWERCASE_KEY = "tokenizer.ggml.normalizer.lowercase"

_WORDLESS = re.compile(f"(?:\\A|(?<=\n))(?=[^\n{SPACE}])")
# What Unicode calls White_Space; Oniguruma's and Python's \s are other sets.
_WHITESPACE = (
    r"[\t-\r\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"
)


class WordEncoder:
    """Plain text (no special tokens) to ids. Immutable; ``encode`` releases the GIL."""

    def __init__(
        self,
        backend: Backend,
        breaks: re.Pattern[str],
        prepare: Callable[[str], str] | None = None,
        unmade_id: int | None = None,
    ) -> None:
        """``prepare`` turns a text into what the tokens spell; ``unmade_id`` is what the backend
        has for a character that no token spells: it is left out."""
        self._backend = backend
        self._breaks = breaks
        self._prepare = prepare
        self._unmade_id = unmade_id

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it."""
        prepared = text if self._prepare is None else self._prepare(text)
        for chunk in chunks.chunks(prepared, self._breaks):
            ids = backend_ids(self._backend, chunk)
            if self._unmade_id in ids:
                ids = [token_id for token_id in ids if token_id != self._unmade_id]
            yield ids


def backend_ids(backend: Backend, text: str) -> list[int]:
    """Ids of one text. The batch call releases the GIL and skips offsets; ``encode`` does not."""
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids


class LineEndEncoder:
    """Keeps runs of line ends that are tokens whole where merging would not make them."""

    def __init__(self, between: WordEncoder, runs: dict[str, int]) -> None:
        self._between = between
        self._runs = runs

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each stretch of it."""
        for part in re.split(r"(\n+)", text):
            if part in self._runs:
                yield [self._runs[part]]
            elif part:
                yield from self._between.encode(part)


def merging_encoder(
    metadata: Metadata,
    vocab: Vocab,
    words: pretokenize.PreTokenizer,
    *,
    may_lack_merges: bool = False,
) -> TextEncoder:
    """BPE over the words of ``words``. Raises ModelFileError for merges that cannot be."""
    is_bytes = words.spelling is Spelling.BYTES
    merges = [] if may_lack_merges and MERGES_KEY not in metadata else _read_merges(metadata)
    unmade = _unmade(vocab, words.spelling)
    backend = Backend(
        _bpe(
            metadata,
            vocab,
            merges,
            unmade,
            ignore_merges=words.ignore_merges,
            byte_fallback=not is_bytes,
        )
    )
    splits: list[PreTokenizer] = [Split(Regex(part), "isolated") for part in words.patterns]
    if is_bytes:
        splits.append(ByteLevel(add_prefix_space=False, use_regex=False))
    backend.pre_tokenizer = Sequence(splits)
    encoder = WordEncoder(
        backend, words.breaks, _PREPARE.get(words.spelling), len(vocab.tokens) if unmade else None
    )
    return _keeping_newlines(encoder, backend, vocab) if words.keeps_newlines else encoder


def spaceless_encoder(
    metadata: Metadata, vocab: Vocab, words: pretokenize.PreTokenizer
) -> WordEncoder:
    """The same without whitespace, which parts words and is dropped (Jina v2 zh)."""
    unmade = _unmade(vocab, words.spelling)
    model = _bpe(metadata, vocab, _read_merges(metadata), unmade, byte_fallback=True)
    backend = Backend(model)
    if metadata.get_bool(LOWERCASE_KEY, False):
        # One character for one, as llama.cpp has it.
        backend.normalizer = normalizers.Sequence(
            [normalizers.Replace("\u0130", "i"), normalizers.Lowercase()]
        )
    backend.pre_tokenizer = Sequence(
        [
            Split(Regex(_WHITESPACE), "removed"),
            *(Split(Regex(part), "isolated") for part in words.patterns),
        ]
    )
    return WordEncoder(backend, words.breaks, None, len(vocab.tokens) if unmade else None)


def _escape(text: str) -> str:
    return text.replace(" ", SPACE)


def _begin_words(text: str) -> str:
    """``text`` with "▁" before each line that does not begin with one."""
    return _WORDLESS.sub(SPACE, _escape(text))


_PREPARE = {Spelling.LINES: _escape, Spelling.WORDS: _begin_words}


def _keeping_newlines(encoder: WordEncoder, backend: Backend, vocab: Vocab) -> TextEncoder:
    runs = {text: i for text, i in vocab.ids.items() if text[0] == "\n" and not text.strip("\n")}
    if all(backend_ids(backend, text) == [token_id] for text, token_id in runs.items()):
        return encoder
    return LineEndEncoder(encoder, runs)


def _unmade(vocab: Vocab, spelling: Spelling) -> str | None:
    """A text, in no word and no vocabulary, for what no token spells: without one the library
    would join what is on both sides of it. None where every text can be spelled."""
    if spelling is Spelling.BYTES:
        needed = set(ByteLevel.alphabet())
    else:
        needed = {f"<0x{byte:02X}>" for byte in range(256)}
    if needed <= vocab.ids.keys():
        return None
    text = "  unmade"
    while text in vocab.ids:
        text += " "
    return text


def _bpe(
    metadata: Metadata,
    vocab: Vocab,
    merges: list[tuple[str, str]],
    unmade: str | None,
    **options: bool,
) -> BPE:
    if len(vocab.ids) < len(vocab.tokens):  # some have lost their text, and their merges with it
        merges = [pair for pair in merges if {*pair, "".join(pair)} <= vocab.ids.keys()]
    ids = vocab.ids if unmade is None else vocab.ids | {unmade: len(vocab.tokens)}
    try:
        return BPE(vocab=ids, merges=merges, unk_token=unmade, fuse_unk=False, **options)
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
