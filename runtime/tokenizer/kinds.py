"""Which kind of tokenizer a model file asks for, and the flags that go with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import pieces, words
from slotmux.runtime.tokenizer.dna import KMER_MARK, DnaEncoder
from slotmux.runtime.tokenizer.encoder import TextEncoder
from slotmux.runtime.tokenizer.pretokenize import GEMMA4, PreTokenizer, Spelling, pre_tokenizer
from slotmux.runtime.tokenizer.rwkv import LongestMatchEncoder
from slotmux.runtime.tokenizer.spm import ScoreEncoder
from slotmux.runtime.tokenizer.unigram import PlamoEncoder, UnigramEncoder
from slotmux.runtime.tokenizer.vocab import (
    BOS_KEY,
    EOS_KEY,
    MODEL_KEY,
    SEP_KEY,
    TOKENS_KEY,
    UNK_KEY,
    Vocab,
)
from slotmux.runtime.tokenizer.wordpiece import WordPieceEncoder

PRE_KEY = "tokenizer.ggml.pre"
ADD_BOS_KEY = "tokenizer.ggml.add_bos_token"
ADD_EOS_KEY = "tokenizer.ggml.add_eos_token"
ADD_SEP_KEY = "tokenizer.ggml.add_sep_token"
ADD_SPACE_KEY = "tokenizer.ggml.add_space_prefix"

_MASKS_BY_PRE = ("jina-v2-de", "jina-v2-es", "jina-v2-code", "mmbert")
_MASKS_BY_ARCHITECTURE = ("nomic-bert-moe", "jina-bert-v3")


@dataclass(frozen=True, slots=True)
class Stripping:
    """Which special tokens eat the whitespace beside them. Files do not say so: llama.cpp goes by
    names of models and pre-tokenizers, and so is it done here."""

    right: bool = False  # all but a few, to their right
    left: str | None = None  # the text of one, to its left


@dataclass(frozen=True, slots=True)
class Kind:
    """How a vocabulary is used. ``build_encoder`` may raise ModelFileError."""

    build_encoder: Callable[[Metadata, Vocab], TextEncoder]
    piece_of: Callable[[str], bytes]
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    add_sep: bool = False  # between the two texts of a pair
    stripping: Stripping = Stripping()
    makes_unknown: bool = False  # text that no token spells becomes the unknown token
    drops_text: bool = False  # so a long text may have few tokens
    default_ids: dict[str, int] = field(default_factory=dict)


def read_kind(metadata: Metadata) -> Kind:
    """Raises ModelFileError for a tokenizer or pre-tokenizer that is not known."""
    model = metadata.get_str(MODEL_KEY)
    readers = {
        "gpt2": _merging,
        "llama": _score_driven,
        "gemma4": _lines,
        "whitespace": _spaceless,
        "hybriddna": _dna,
        "rwkv": _world,
        "bert": _word_pieces,
        "t5": _unigram,
        "plamo2": _plamo,
    }
    if model not in readers:
        metadata.refuse(MODEL_KEY, f"{model[:40]!a} is not a kind of tokenizer known here")
    return readers[model](metadata)


def _merging(metadata: Metadata) -> Kind:
    name = metadata.get_str(PRE_KEY, "default") or "default"
    splits = _splits(metadata, name)

    def build(metadata: Metadata, vocab: Vocab) -> TextEncoder:
        return words.merging_encoder(metadata, vocab, splits, may_lack_merges=name == "kimi-k2")

    return _with_words(metadata, splits, build)


def _spaceless(metadata: Metadata) -> Kind:
    splits = _splits(metadata, metadata.get_str(PRE_KEY, "whitespace"))

    def build(metadata: Metadata, vocab: Vocab) -> TextEncoder:
        return words.spaceless_encoder(metadata, vocab, splits)

    return replace(_with_words(metadata, splits, build), drops_text=True)


def _dna(metadata: Metadata) -> Kind:
    kind = _merging(metadata)

    def build(metadata: Metadata, vocab: Vocab) -> TextEncoder:
        return DnaEncoder(kind.build_encoder(metadata, vocab), vocab)

    def piece_of(text: str) -> bytes:
        return kind.piece_of(text.removesuffix(KMER_MARK))

    return replace(kind, build_encoder=build, piece_of=piece_of)


def _lines(metadata: Metadata) -> Kind:
    def build(metadata: Metadata, vocab: Vocab) -> TextEncoder:
        return words.merging_encoder(metadata, vocab, GEMMA4)

    return _with_words(metadata, GEMMA4, build)


def _splits(metadata: Metadata, name: str) -> PreTokenizer:
    found = pre_tokenizer(name)
    if found is None:
        metadata.refuse(PRE_KEY, f"{name[:40]!a} is not a pre-tokenizer known here")
    return found


def _with_words(
    metadata: Metadata, splits: PreTokenizer, build: Callable[[Metadata, Vocab], TextEncoder]
) -> Kind:
    pieces_of: dict[Spelling, Callable[[str], bytes]] = {
        Spelling.BYTES: pieces.ByteAlphabet(),
        Spelling.PLAIN: str.encode,
    }
    add_bos = metadata.get_bool(ADD_BOS_KEY, splits.add_bos and BOS_KEY in metadata)
    return Kind(
        build,
        pieces_of.get(splits.spelling, pieces.of_escaped_spaces),
        add_bos=add_bos or splits is GEMMA4,  # whose files say otherwise by mistake
        add_eos=metadata.get_bool(ADD_EOS_KEY, False),
        add_sep=metadata.get_bool(ADD_SEP_KEY, splits.add_sep),
        stripping=_stripping(metadata),
    )


def _score_driven(metadata: Metadata) -> Kind:
    return Kind(
        ScoreEncoder,
        pieces.of_escaped_spaces,
        add_bos=metadata.get_bool(ADD_BOS_KEY, True),
        add_eos=metadata.get_bool(ADD_EOS_KEY, False),
        add_space_prefix=metadata.get_bool(ADD_SPACE_KEY, True),
        stripping=_stripping(metadata),
        makes_unknown=True,
        default_ids={BOS_KEY: 1, EOS_KEY: 2, UNK_KEY: 0},
    )


def _world(_: Metadata) -> Kind:
    # Never adds BOS or EOS, whatever the file says: llama.cpp does not look.
    return Kind(LongestMatchEncoder, pieces.of_world, makes_unknown=True)


def _word_pieces(metadata: Metadata) -> Kind:
    # Texts stand between [CLS] and [SEP], whatever the file says: llama.cpp does not look. That
    # [SEP] is also what stands between the two of a pair, once, as in BERT's own tokenizer.
    sep_id = metadata.get_u32(SEP_KEY, 102)
    return Kind(
        WordPieceEncoder,
        pieces.of_escaped_spaces,
        add_bos=True,
        add_eos=True,
        makes_unknown=True,
        drops_text=True,
        default_ids={BOS_KEY: 101, EOS_KEY: sep_id, UNK_KEY: 100},
    )


def _unigram(metadata: Metadata) -> Kind:
    return Kind(
        UnigramEncoder,  # which puts a space first itself
        pieces.of_escaped_spaces,
        add_bos=metadata.get_bool(ADD_BOS_KEY, False),
        add_eos=metadata.get_bool(ADD_EOS_KEY, True),
        add_sep=metadata.get_bool(ADD_SEP_KEY, False),
        stripping=_stripping(metadata),
        makes_unknown=True,
        drops_text=True,
        default_ids={EOS_KEY: 1, UNK_KEY: 2},
    )


def _plamo(metadata: Metadata) -> Kind:
    return Kind(
        PlamoEncoder,
        str.encode,
        add_bos=metadata.get_bool(ADD_BOS_KEY, False),
        add_eos=metadata.get_bool(ADD_EOS_KEY, False),
        default_ids={BOS_KEY: 1, EOS_KEY: 2, UNK_KEY: 0},
    )


def _stripping(metadata: Metadata) -> Stripping:
    pre = metadata.tolerant(PRE_KEY, "", metadata.get_str)
    architecture = metadata.tolerant("general.architecture", "", metadata.get_str)
    if any(name in pre for name in _MASKS_BY_PRE) or architecture in _MASKS_BY_ARCHITECTURE:
        return Stripping(left="<mask>")
    name = metadata.tolerant("general.name", "", metadata.get_str).lower()
    if "phi-3" in name or "phi3" in name:
        kept = {"</s>", "<unk>", "<s>", "<|endoftext|>"}
        return Stripping(right=kept <= set(metadata.get_strings(TOKENS_KEY)))
    return Stripping(left="[MASK]" if "modern-bert" in name else None)
