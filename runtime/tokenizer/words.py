"""Byte-pair merging with the `tokenizers` library: words from patterns, ids from merges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from operator import add
from typing import NamedTuple

from tokenizers import Regex, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import chunks, pretokenize
from slotmux.runtime.tokenizer.deferred import Deferred
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
        backend: Deferred[Backend],
        breaks: re.Pattern[str],
        prepare: Callable[[str], str] | None = None,
        spelled: Mapping[int, list[int]] | None = None,
    ) -> None:
        """``prepare`` turns a text into what the tokens spell; ``spelled`` has the tokens of each
        id that the backend knows and the vocabulary does not."""
        self._backend = backend
        self._breaks = breaks
        self._prepare = prepare
        self._spelled = spelled or {}

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each chunk of it."""
        prepared = text if self._prepare is None else self._prepare(text)
        backend = self._backend()
        for chunk in chunks.chunks(prepared, self._breaks):
            ids = backend_ids(backend, chunk)
            if not self._spelled.keys().isdisjoint(ids):
                ids = [part for i in ids for part in self._spelled.get(i, (i,))]
            yield ids


def backend_ids(backend: Backend, text: str) -> list[int]:
    """Ids of one text. The batch call releases the GIL and skips offsets; ``encode`` does not."""
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids


class LineEndEncoder:
    """Keeps runs of line ends that are tokens whole, which merging does not always make."""

    def __init__(self, between: WordEncoder, runs: dict[str, int]) -> None:
        self._between = between
        self._runs = runs
        self._are_apart = Deferred(self._look)

    def encode(self, text: str) -> Iterator[list[int]]:
        """Ids of ``text``, a list for each stretch of it."""
        if not self._are_apart():
            yield from self._between.encode(text)
            return
        for part in re.split(r"(\n+)", text):
            if part in self._runs:
                yield [self._runs[part]]
            elif part:
                yield from self._between.encode(part)

    def _look(self) -> bool:
        return any([*self._between.encode(run)] != [[i]] for run, i in self._runs.items())


def merging_encoder(
    metadata: Metadata,
    vocab: Vocab,
    words: pretokenize.PreTokenizer,
    *,
    may_lack_merges: bool = False,
) -> TextEncoder:
    """BPE over the words of ``words``. Raises ModelFileError for merges that cannot be."""
    is_bytes = words.spelling is Spelling.BYTES
    is_bare = may_lack_merges and MERGES_KEY not in metadata
    merges = Merges([], [], []) if is_bare else _read_merges(metadata, vocab)
    extra = _extra(vocab, merges, words.spelling)

    def build() -> Backend:
        options = {"ignore_merges": words.ignore_merges, "byte_fallback": not is_bytes}
        backend = Backend(_bpe(vocab, merges, extra, **options))
        splits: list[PreTokenizer] = [Split(Regex(part), "isolated") for part in words.patterns]
        if is_bytes:
            splits.append(ByteLevel(add_prefix_space=False, use_regex=False))
        backend.pre_tokenizer = Sequence(splits)
        return backend

    prepare = _PREPARE.get(words.spelling)
    encoder = WordEncoder(Deferred(build), words.breaks, prepare, extra.spelled)
    if not words.keeps_newlines:
        return encoder
    runs = {text: i for text, i in vocab.ids.items() if text[0] == "\n" and not text.strip("\n")}
    return LineEndEncoder(encoder, runs)


def spaceless_encoder(
    metadata: Metadata, vocab: Vocab, words: pretokenize.PreTokenizer
) -> WordEncoder:
    """The same without whitespace, which parts words and is dropped (Jina v2 zh)."""
    merges = _read_merges(metadata, vocab)
    extra = _extra(vocab, merges, words.spelling)
    lowercase = metadata.get_bool(LOWERCASE_KEY, False)

    def build() -> Backend:
        backend = Backend(_bpe(vocab, merges, extra, byte_fallback=True))
        if lowercase:
            # One character for one, as llama.cpp has it.
            backend.normalizer = normalizers.Sequence(
                [normalizers.Replace("\u0130", "i"), normalizers.Lowercase()]
            )
        parts = [Split(Regex(part), "isolated") for part in words.patterns]
        backend.pre_tokenizer = Sequence([Split(Regex(_WHITESPACE), "removed"), *parts])
        return backend

    return WordEncoder(Deferred(build), words.breaks, None, extra.spelled)


def _escape(text: str) -> str:
    return text.replace(" ", SPACE)


def _begin_words(text: str) -> str:
    """``text`` with "▁" before each line that does not begin with one."""
    return _WORDLESS.sub(SPACE, _escape(text))


_PREPARE = {Spelling.LINES: _escape, Spelling.WORDS: _begin_words}


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


class Extra(NamedTuple):
    """What the library must know beside the vocabulary; ids go on behind it."""

    ids: dict[str, int]
    unmade: str | None
    spelled: dict[int, list[int]]  # the tokens that stand for each


def _extra(vocab: Vocab, merges: Merges, spelling: Spelling) -> Extra:
    """What no token spells is left out; a text that merging makes and that is no token is
    written as its characters, as llama.cpp does."""
    unmade = _unmade(vocab, spelling)
    ids = {} if unmade is None else {unmade: len(vocab.tokens)}
    spelled: dict[int, list[int]] = {token_id: [] for token_id in ids.values()}
    for text in merges.of_no_token:
        ids[text] = len(vocab.tokens) + len(ids)
        spelled[ids[text]] = list(_characters(text, vocab))
    return Extra(ids, unmade, spelled)


def _characters(text: str, vocab: Vocab) -> Iterator[int]:
    for char in text:
        texts = [char] if char in vocab.ids else [f"<0x{byte:02X}>" for byte in char.encode()]
        yield from (vocab.ids[text] for text in texts if text in vocab.ids)


def _bpe(vocab: Vocab, merges: Merges, extra: Extra, **options: bool) -> BPE:
    pairs = list(zip(merges.lefts, merges.rights, strict=True))
    ids = vocab.ids | extra.ids if extra.ids else vocab.ids
    return BPE(vocab=ids, merges=pairs, unk_token=extra.unmade, fuse_unk=False, **options)


class Merges(NamedTuple):
    """Texts that are joined, the first pair before the others."""

    lefts: list[str]
    rights: list[str]
    of_no_token: list[str]  # texts of merges that are not in the vocabulary


def _read_merges(metadata: Metadata, vocab: Vocab) -> Merges:
    """Of repeated ones the first. Raises ModelFileError where one is not two texts."""
    stored = metadata.get_strings(MERGES_KEY)
    lefts, rights = _parts(metadata, stored)
    ids = vocab.ids
    texts = (lefts, rights, list(map(add, lefts, rights)))
    of_no_token: list[str] = []
    if not all(all(map(ids.__contains__, part)) for part in texts):
        of_no_token = sorted(set().union(*texts) - ids.keys())
        first, others = ascii(of_no_token[0][:40]), len(of_no_token) - 1
        also = f" (and {others} more)" if others else ""
        metadata.warn(MERGES_KEY, f"{first}{also} is no token: written as its characters")
    if len(set(stored)) < len(stored):
        pairs = dict.fromkeys(zip(lefts, rights, strict=True))
        lefts, rights = [a for a, _ in pairs], [b for _, b in pairs]
    return Merges(lefts, rights, of_no_token)


def _parts(metadata: Metadata, merges: list[str]) -> tuple[list[str], list[str]]:
    """What is left and right of the space of each merge."""
    flat = " ".join(merges).split(" ")
    lefts, rights = flat[::2], flat[1::2]
    sizes = [a + b + 1 for a, b in zip(map(len, lefts), map(len, rights), strict=False)]
    # Of the same lengths: so each has one space, and neither part is empty.
    if sizes == [*map(len, merges)] and all(lefts) and all(rights):
        return lefts, rights
    lefts, rights = [], []
    for rank, merge in enumerate(merges):
        cut = merge.find(" ", 1)  # a token may begin with a space
        if cut < 0 or cut == len(merge) - 1:
            metadata.refuse(MERGES_KEY, f"merge {rank} is not two tokens with a space between")
        lefts.append(merge[:cut])
        rights.append(merge[cut + 1 :])
    return lefts, rights
