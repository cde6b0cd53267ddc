"""Small vocabularies made by hand, as the metadata that a model file would give."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGUFValueType

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.gguf.values import Entry
from slotmux.runtime.tokenizer.pieces import byte_alphabet

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BYTES = [char for _, char in sorted(byte_alphabet().items())]


def metadata(**keys: Any) -> Metadata:
    """Metadata of ``tokenizer.ggml.*`` keys; a None leaves a key out."""
    entries = {}
    for name, value in keys.items():
        is_general = name.startswith("general_")
        key = name.replace("_", ".") if is_general else f"tokenizer.ggml.{name}"
        if value is not None:
            entries[key] = Entry(_type_of(value), value, 0)
    return Metadata(entries)


def _type_of(value: Any) -> GGUFValueType:
    if isinstance(value, bool):
        return GGUFValueType.BOOL
    if isinstance(value, int):
        return GGUFValueType.UINT32
    if isinstance(value, str):
        return GGUFValueType.STRING
    return GGUFValueType.ARRAY


def byte_level(
    specials: dict[str, int] | None = None, merges: tuple[str, ...] = (), **keys: Any
) -> Metadata:
    """A byte-level BPE vocabulary: the 256 bytes, what ``merges`` make, then ``specials``
    (text to type)."""
    tokens = [*BYTES, *("".join(merge.split(" ")) for merge in merges)]
    types = [NORMAL] * len(tokens)
    for text, kind in (specials or {}).items():
        tokens.append(text)
        types.append(kind)
    made: dict[str, Any] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": np.array(types, np.int32),
        "merges": list(merges),
    }
    return metadata(**(made | keys))


def score_driven(pieces: dict[str, float], **keys: Any) -> Metadata:
    """A SentencePiece-like vocabulary: <unk>, <s>, </s>, the bytes, and ``pieces`` with their
    scores."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)]
    made: dict[str, Any] = {
        "model": "llama",
        "tokens": tokens,
        "scores": np.array([0.0] * 259 + list(pieces.values()), np.float32),
        "token_type": np.array(types, np.int32),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return metadata(**(made | keys))


def unigram(pieces: dict[str, tuple[float, int]], **keys: Any) -> Metadata:
    """A unigram vocabulary: <unk>, <s>, </s>, and ``pieces`` with their scores and types."""
    types = [UNKNOWN, CONTROL, CONTROL, *(kind for _, kind in pieces.values())]
    made: dict[str, Any] = {
        "model": "t5",
        "tokens": ["<unk>", "<s>", "</s>", *pieces],
        "scores": np.array([0.0] * 3 + [score for score, _ in pieces.values()], np.float32),
        "token_type": np.array(types, np.int32),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return metadata(**(made | keys))


def plamo2(pieces: dict[str, float], **keys: Any) -> Metadata:
    """PLaMo's kind of vocabulary: three special tokens, the bytes, and ``pieces`` with scores."""
    special = ["<|plamo:unk|>", "<|plamo:bos|>", "<|plamo:eos|>"]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)]
    made: dict[str, Any] = {
        "model": "plamo2",
        "tokens": [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces],
        "scores": np.array([0.0] * 259 + list(pieces.values()), np.float32),
        "token_type": np.array(types, np.int32),
    }
    return metadata(**(made | keys))
