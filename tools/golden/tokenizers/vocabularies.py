"""The vocabularies, by name, as the keys of a model file."""

from __future__ import annotations

import io
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from gguf import TokenType
from tokenizers.pre_tokenizers import ByteLevel

from tools.golden.tokenizers.merging import learn
from tools.golden.tokenizers.texts import TEXTS

Value: TypeAlias = bool | int | str | bytes | Sequence[str] | Sequence[float] | Sequence[int]
Keys: TypeAlias = dict[str, Value]

N_MERGES = 1500
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
# llama.cpp reads tokens up to a NUL.
_LEARNED = [text.replace("\0", "") for text in TEXTS if len(text) > 3]
_NAMED = {
    "<s>": TokenType.CONTROL,
    "</s>": TokenType.CONTROL,
    "<pad>": TokenType.CONTROL,
    "<mask>": TokenType.CONTROL,
    "<ud>": TokenType.USER_DEFINED,
}


def _merged(
    model: str,
    alphabet: Sequence[str],
    merges: Sequence[tuple[str, str]],
    whole: Sequence[str],
    types: Mapping[str, TokenType],
) -> Keys:
    """``whole``: tokens that no merge makes."""
    tokens = dict.fromkeys([*alphabet, *map("".join, merges), *whole, *types])
    return {
        "model": model,
        "tokens": list(tokens),
        "token_type": [int(types.get(text, TokenType.NORMAL)) for text in tokens],
        "merges": [f"{left} {right}" for left, right in merges],
        "bos_token_id": list(tokens).index("<s>"),
        "eos_token_id": list(tokens).index("</s>"),
        "seperator_token_id": list(tokens).index("</s>"),
    }


def _spelled(text: str) -> str:
    """``text`` in GPT-2's characters for bytes."""
    (spelled,) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return str(spelled[0])


def byte_level() -> Keys:
    """For every pre-tokenizer that parts bytes."""
    merges = learn([_spelled(text) for text in _LEARNED], N_MERGES)
    whole = [
        _spelled(text) for text in (" HELLO", "World", "1234", "漢字", "\n\n\n\n\n", " indented")
    ]
    return _merged("gpt2", sorted(ByteLevel.alphabet()), merges, whole, _NAMED)


def lines() -> Keys:
    """For those that part lines of plain text: "▁" for spaces, bytes for what is no token."""
    texts = [text.replace(" ", "▁") for text in _LEARNED]
    alphabet = sorted({char for text in texts for char in text if ord(char) < 0xFFFF})
    merges = [m for m in learn(texts, N_MERGES) if all(ord(c) < 0xFFFF for c in "".join(m))]
    whole = ["\n" * n for n in range(4, 9)]
    types = dict.fromkeys(BYTE_TOKENS, TokenType.BYTE) | _NAMED
    return _merged("gpt2", alphabet, merges, whole, types)


def spaceless() -> Keys:
    """For texts parted by whitespace, which is dropped; many characters are no token."""
    texts = [part for text in _LEARNED for part in text.split()]
    alphabet = sorted({char for text in texts for char in text if ord(char) < 0x3000})
    merges = [m for m in learn(texts, N_MERGES) if all(ord(c) < 0x3000 for c in "".join(m))]
    return _merged("whitespace", alphabet, merges, [], _NAMED) | {"pre": "whitespace"}


def dna() -> Keys:
    """Byte level, and tokens of six bases."""
    keys = byte_level()
    kmers = ["ACGTAC", "GTAGGG", "ACGTAA", "CCCCCC", "ACGAAA", "GGGGGG"]
    added = ["<dna>", "</dna>", "<oov>", *(f"{kmer}\ue000" for kmer in kmers)]
    tokens, types = keys["tokens"], keys["token_type"]
    assert isinstance(tokens, list)
    added = [text for text in added if text not in tokens]  # some the merges made
    assert isinstance(types, list)
    return keys | {
        "model": "hybriddna",
        "pre": "qwen2",
        "tokens": [*tokens, *added],
        "token_type": [*types, *[int(TokenType.NORMAL)] * len(added)],
    }


# What SentencePiece's own map does to some characters, so that its file stays small.
RULES = {
    "\n": " ",
    "\t": " ",
    "\r": " ",
    "\x0c": " ",
    "\xa0": " ",
    "\u2003": " ",
    "\u3000": " ",
    "\u2028": " ",
    "▁": " ",
    "\x01": "",
    "\x02": "",
    "\x7f": "",
    "\u200b": " ",
    "\u200d": " ",
    "\ufeff": " ",
    "½": "1⁄2",
    "²": "2",
    "³": "3",
    "①": "1",
    "…": "...",
    "ﬁ": "fi",
    "ﬂ": "fl",
    "ℌ": "H",
    "㌔": "キロ",
    "e\u0301": "\u00e9",
    "E\u0301": "\u00c9",
    "A\u030a": "\u00c5",
    "A\u030a\u0301": "\u01fa",
    "\u212b": "\u00c5",
    "\u1100\u1161": "\uac00",
    "\u1100\u1161\u11a8": "\uac01",
} | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


def unigram() -> Keys:
    """SentencePiece's unigram model, trained by SentencePiece. Adds a few odd tokens."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        rules.write_text(
            "".join(f"{_codes(text)}\t{_codes(to)}\n" for text, to in RULES.items()), "utf-8"
        )
        trained = io.BytesIO()
        lines = [line for text in _LEARNED for line in re.split(r"[\0\n\r]+", text) if line.strip()]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 3),
            model_writer=trained,
            vocab_size=700,
            model_type="unigram",
            normalization_rule_tsv=str(rules),
            user_defined_symbols=["<ud>"],
            unk_id=2,
            pad_id=0,
            eos_id=1,
            bos_id=-1,
            character_coverage=0.985,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    model = sentencepiece_model_pb2.ModelProto.FromString(trained.getvalue())
    tokens = [(piece.piece, piece.score, piece.type) for piece in model.pieces]
    tokens += [("<s>", 0.0, 3), ("<mask>", 0.0, 3), ("[PAD5]", -10000.0, 5), ("▁a▁b", -9.5, 5)]
    return {
        "model": "t5",
        "pre": "default",
        "tokens": [text for text, _, _ in tokens],
        "scores": [float(score) for _, score, _ in tokens],
        "token_type": [int(kind) for _, _, kind in tokens],
        "precompiled_charsmap": model.normalizer_spec.precompiled_charsmap,
        "bos_token_id": len(model.pieces),
        "eos_token_id": 1,
        "unknown_token_id": 2,
        "padding_token_id": 0,
    }


def _codes(text: str) -> str:
    return " ".join(f"{ord(char):X}" for char in text)


def plamo2() -> Keys:
    """Parts of the texts with scores of which many are equal."""
    draws = random.Random(2)
    pieces: dict[str, float] = {}
    for text in _LEARNED:
        for _ in range(len(text) // 3):
            begin = draws.randrange(len(text))
            piece = text[begin : begin + draws.randint(1, 6)]
            if all(ord(char) < 0xFFFF for char in piece):
                pieces[piece] = -draws.randint(2, 9) - draws.randrange(4) / 4
    special = {"<|plamo:unk|>": 2, "<|plamo:bos|>": 3, "<|plamo:eos|>": 3, "<|plamo:pad|>": 3}
    types = [*special.values(), *[int(TokenType.BYTE)] * 256, *[1] * len(pieces), 5]
    return {
        "model": "plamo2",
        "pre": "default",
        "tokens": [*special, *BYTE_TOKENS, *pieces, "[PAD1]"],
        "scores": [*[0.0] * (len(special) + 256), *pieces.values(), -1000.0],
        "token_type": types,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "add_bos_token": True,
        "add_space_prefix": False,
    }
