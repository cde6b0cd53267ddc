"""RELIABILITY class C: a vocabulary that cannot be right is refused at load, by its key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slotmux.runtime.gguf import Metadata, ModelFileError
from slotmux.runtime.tokenizer import Tokenizer
from tests.runtime.tokenizer.vocabularies import (
    BYTE,
    BYTES,
    CONTROL,
    USER_DEFINED,
    byte_level,
    metadata,
    plamo2,
    score_driven,
    unigram,
)

INT = np.int32
UGM = {"a": (-1.0, 1), "b": (-2.0, 1)}
SPM = {"▁": -1.0, "a": -2.0, "b": -3.0, "ab": -4.0}
N = 256


def types(n: int, value: int = 1) -> np.ndarray[Any, Any]:
    return np.full(n, value, INT)


MAP_KEY = "precompiled_charsmap"
# So small that the default id of the unknown token is none of theirs.
TWO = {"tokens": ["a", "b"], "token_type": types(2), "scores": np.zeros(2, np.float32)}


def charsmap(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, np.uint8)


def with_merges(*merges: str) -> Metadata:
    """The bytes alone, whatever the merges make."""
    return metadata(model="gpt2", tokens=BYTES, merges=list(merges))


BAD: list[tuple[str, Metadata, str]] = [
    ("no model", byte_level(model=None), "model"),
    ("unknown model", byte_level(model="none"), "model"),
    ("model of a wrong type", byte_level(model=7), "model"),
    ("unknown pre-tokenizer", byte_level(pre="no-such"), "pre"),
    ("pre of a wrong type", byte_level(pre=1), "pre"),
    ("no tokens", byte_level(tokens=None), "tokens"),
    ("tokens of a wrong type", byte_level(tokens=types(N)), "tokens"),
    ("an empty vocabulary", byte_level(tokens=[], token_type=types(0)), "tokens"),
    ("a repeated token", byte_level(tokens=[*BYTES[:-1], BYTES[0]]), "tokens"),
    ("a 1 MiB token", byte_level({"x" * (1 << 20): CONTROL}), "tokens"),
    ("too few types", byte_level(token_type=types(N - 1)), "token_type"),
    ("too many types", byte_level(token_type=types(N + 1)), "token_type"),
    ("types that are floats", byte_level(token_type=np.ones(N, np.float32)), "token_type"),
    ("types that are strings", byte_level(token_type=["1"] * N), "token_type"),
    ("a byte token without a byte", byte_level({"<0xZZ>": BYTE}), "tokens"),
    ("bos wanted and not named", byte_level(add_bos_token=True), "bos_token_id"),
    ("eos wanted and not named", byte_level(add_eos_token=True), "eos_token_id"),
    ("add_bos of a wrong type", byte_level(add_bos_token=1), "add_bos_token"),
    ("no merges", metadata(model="gpt2", tokens=BYTES), "merges"),
    ("merges of a wrong type", metadata(model="gpt2", tokens=BYTES, merges=types(3)), "merges"),
    ("a merge without a space", with_merges("ab"), "merges"),
    ("a merge of one token", with_merges("a "), "merges"),
    ("an empty merge", with_merges(""), "merges"),
    ("no scores", score_driven(SPM, scores=None), "scores"),
    ("too few scores", score_driven(SPM, scores=np.zeros(3, np.float32)), "scores"),
    ("scores that are strings", score_driven(SPM, scores=["1"] * 263), "scores"),
    ("a score that is no number", score_driven(SPM | {"c": float("nan")}), "scores"),
    (
        "a world token with half an escape",
        metadata(model="rwkv", tokens=["a", "\\x4"]),
        "tokens",
    ),
    ("a world token that is not hex", metadata(model="rwkv", tokens=["\\xzz"]), "tokens"),
    ("a world token that ends in a backslash", metadata(model="rwkv", tokens=["a\\"]), "tokens"),
    ("an empty map of characters", unigram(UGM, precompiled_charsmap=charsmap(b"")), MAP_KEY),
    ("a map cut short", unigram(UGM, precompiled_charsmap=charsmap(b"\x10\0\0\0" * 3)), MAP_KEY),
    ("a map of numbers", unigram(UGM, precompiled_charsmap=types(99)), MAP_KEY),
    ("a map that is a text", unigram(UGM, precompiled_charsmap="x" * 99), MAP_KEY),
    ("a unigram vocabulary without scores", unigram(UGM, scores=None), "scores"),
    ("too few scores for it", unigram(UGM, scores=np.zeros(4, np.float32)), "scores"),
    ("a score that is not finite", unigram(UGM | {"c": (-np.inf, 1)}), "scores"),
    ("no unknown token", unigram(UGM, unknown_token_id=None, **TWO), "unknown_token_id"),
    ("no normal token", unigram({"a": (-1.0, 3)}), "tokens"),
    ("merging spaces, maybe", unigram(UGM, remove_extra_whitespaces=1), "remove_extra_whitespaces"),
    ("PLaMo without scores", plamo2({"a": -1.0}, scores=None), "scores"),
    ("PLaMo's scores too large", plamo2({"a": -1e6}), "scores"),
    ("a missing byte", plamo2({"a": -1.0}, token_type=types(260)), "tokens"),
    ("words without merges", metadata(model="whitespace", tokens=["a"]), "merges"),
    ("lines without merges", metadata(model="gemma4", tokens=["a"], bos_token_id=0), "merges"),
    (
        "special tokens nested a thousand deep",
        byte_level({"<" * n: USER_DEFINED for n in range(2, 1500)}),
        "tokens",
    ),
]


@pytest.mark.parametrize(("data", "key"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_it_is_refused_by_the_name_of_the_key(data: Metadata, key: str) -> None:
    with pytest.raises(ModelFileError) as refused:
        Tokenizer.from_metadata(data)
    assert refused.value.field == f"tokenizer.ggml.{key}"
    assert len(str(refused.value)) < 300


GOOD = {
    "byte level": byte_level(),
    "scores": score_driven(SPM),
    "unigram": unigram(UGM | {"▁": (-3.0, 1)}),
    "plamo": plamo2({"a": -1.0}),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD.keys())
def test_what_the_bad_ones_are_made_from_is_good(good: Metadata) -> None:
    tokenizer = Tokenizer.from_metadata(good)
    assert tokenizer.decode(tokenizer.encode("ab ba", add_special=False)).strip() == "ab ba"


def test_a_repeated_merge_counts_where_it_is_first() -> None:
    tokens = [*BYTES, "ab", "bc"]
    merges = ["a b", "b c", "a b"]
    tokenizer = Tokenizer.from_metadata(metadata(model="gpt2", tokens=tokens, merges=merges))
    assert [tokenizer.token_text(i) for i in tokenizer.encode("abc")] == ["ab", "c"]
