"""Which kind of tokenizer a model file asks for, and the flags that go with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import pieces, words
from slotmux.runtime.tokenizer.encoder import TextEncoder
from slotmux.runtime.tokenizer.pretokenize import GEMMA4, PreTokenizer, pre_tokenizer
from slotmux.runtime.tokenizer.rwkv import LongestMatchEncoder
from slotmux.runtime.tokenizer.spm import ScoreEncoder
from slotmux.runtime.tokenizer.vocab import BOS_KEY, EOS_KEY, MODEL_KEY, TOKENS_KEY, UNK_KEY, Vocab
from slotmux.runtime.tokenizer.wordpiece import WordPieceEncoder

PRE_KEY = "tokenizer.ggml.pre"
ADD_BOS_KEY = "tokenizer.ggml.add_bos_token"
ADD_EOS_KEY = "tokenizer.ggml.add_eos_token"
SEP_KEY = "tokenizer.ggml.seperator_token_id"  # spelled so in files
ADD_SPACE_KEY = "tokenizer.ggml.add_space_prefix"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a vocabulary is used. ``build_encoder`` may raise ModelFileError."""

    build_encoder: Callable[[Metadata, Vocab], TextEncoder]
    piece_of: Callable[[str], bytes]
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    rstrip_specials: bool = False
    makes_unknown: bool = False  # text that no token spells becomes the unknown token
    default_ids: dict[str, int] = field(default_factory=dict)


def read_kind(metadata: Metadata) -> Kind:
    """Raises ModelFileError for a tokenizer or pre-tokenizer that is not known."""
    model = metadata.get_str(MODEL_KEY)
    readers = {
        "gpt2": _byte_level,
        "llama": _score_driven,
        "gemma4": _lines,
        "rwkv": _world,
        "bert": _word_pieces,
    }
    if model not in readers:
        metadata.refuse(MODEL_KEY, f"{model[:40]!a} is not a kind of tokenizer known here")
    return readers[model](metadata)


def _byte_level(metadata: Metadata) -> Kind:
    name = metadata.get_str(PRE_KEY, "default")
    found = pre_tokenizer(name)
    if found is None:
        metadata.refuse(PRE_KEY, f"{name[:40]!a} is not a pre-tokenizer known here")
    splits: PreTokenizer = found

    def build(metadata: Metadata, vocab: Vocab) -> TextEncoder:
        return words.byte_level_encoder(metadata, vocab, splits)

    add_bos = splits.add_bos and BOS_KEY in metadata
    return Kind(
        build,
        pieces.of_byte_alphabet(),
        add_bos=metadata.get_bool(ADD_BOS_KEY, add_bos),
        add_eos=metadata.get_bool(ADD_EOS_KEY, False),
        rstrip_specials=_is_phi3(metadata),
    )


def _lines(metadata: Metadata) -> Kind:
    def build(metadata: Metadata, vocab: Vocab) -> TextEncoder:
        return words.line_encoder(metadata, vocab, GEMMA4)

    return Kind(
        build,
        pieces.of_escaped_spaces,
        add_bos=True,  # some files say otherwise by mistake
        add_eos=metadata.get_bool(ADD_EOS_KEY, False),
    )


def _score_driven(metadata: Metadata) -> Kind:
    return Kind(
        ScoreEncoder,
        pieces.of_escaped_spaces,
        add_bos=metadata.get_bool(ADD_BOS_KEY, True),
        add_eos=metadata.get_bool(ADD_EOS_KEY, False),
        add_space_prefix=metadata.get_bool(ADD_SPACE_KEY, True),
        rstrip_specials=_is_phi3(metadata),
        makes_unknown=True,
        default_ids={BOS_KEY: 1, EOS_KEY: 2, UNK_KEY: 0},
    )


def _world(_: Metadata) -> Kind:
    # Never adds BOS or EOS, whatever the file says: llama.cpp does not look.
    return Kind(LongestMatchEncoder, pieces.of_world, makes_unknown=True)


def _word_pieces(metadata: Metadata) -> Kind:
    # Texts stand between [CLS] and [SEP], whatever the file says: llama.cpp does not look.
    sep_id = metadata.get_u32(SEP_KEY, 102)
    return Kind(
        WordPieceEncoder,
        pieces.of_escaped_spaces,
        add_bos=True,
        add_eos=True,
        makes_unknown=True,
        default_ids={BOS_KEY: 101, EOS_KEY: sep_id, UNK_KEY: 100},
    )


def _is_phi3(metadata: Metadata) -> bool:
    """Phi-3's special tokens eat the whitespace to their right; the file does not say so, and
    llama.cpp goes by the model's name."""
    name = metadata.tolerant("general.name", "", metadata.get_str).lower()
    if "phi-3" not in name and "phi3" not in name:
        return False
    return {"</s>", "<unk>", "<s>", "<|endoftext|>"} <= set(metadata.get_strings(TOKENS_KEY))
