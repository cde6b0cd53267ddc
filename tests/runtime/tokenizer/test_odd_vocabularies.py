"""Vocabularies with a fault that other runtimes load: it costs what it touches, with a warning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import Tokenizer
from tests.runtime.tokenizer.vocabularies import (
    BYTE,
    BYTES,
    CONTROL,
    USER_DEFINED,
    byte_level,
    metadata,
    score_driven,
)

SPM = {"▁": -1.0, "a": -2.0, "b": -3.0, "ab": -4.0}
N = 256


def warned(data: Metadata, *words: str) -> Tokenizer:
    """The tokenizer, once it has said one thing that holds all ``words``."""
    tokenizer = Tokenizer.from_metadata(data)
    (line,) = data.warnings
    assert all(word in line for word in words), line
    return tokenizer


class TestEmptyTokens:
    @pytest.mark.parametrize("kind", [1, CONTROL, USER_DEFINED, BYTE])
    def test_byte_level(self, kind: int) -> None:
        tokenizer = warned(byte_level({"": kind}), "tokens", "token 256 is empty")
        assert tokenizer.token_bytes(256) == b""
        ids = tokenizer.encode("ab \n", parse_special=True)
        assert len(ids) == 4
        assert tokenizer.decode([*ids, 256]) == "ab \n"

    def test_byte_level_loses_the_merges_into_it(self) -> None:
        tokens, merges = [*BYTES, "ab", "", "abc"], ["a b", "b c", "ab c"]
        data = metadata(model="gpt2", tokens=tokens, merges=merges)
        tokenizer = Tokenizer.from_metadata(data)
        of_token, of_merge = data.warnings
        assert "token 257 is empty" in of_token
        assert "'bc' is no token" in of_merge
        assert [tokenizer.token_text(i) for i in tokenizer.encode("abcbc")] == ["abc", "b", "c"]

    @pytest.mark.parametrize("at", ["first", "last"])
    def test_by_scores(self, at: str) -> None:
        pieces = {"": -9.0} | SPM if at == "first" else SPM | {"": -9.0}
        data = score_driven(pieces)
        tokenizer = warned(data, "is empty")
        want = Tokenizer.from_metadata(score_driven(SPM))
        text = "ab ba aab"
        assert [tokenizer.token_text(i) for i in tokenizer.encode(text)] == [
            want.token_text(i) for i in want.encode(text)
        ]

    def test_the_unknown_token(self) -> None:
        data = score_driven(SPM | {"": -9.0}, unknown_token_id=263)
        assert Tokenizer.from_metadata(data).encode("ab", add_special=False)

    def test_world(self) -> None:
        tokenizer = warned(metadata(model="rwkv", tokens=["a", "", "", "b"]), "(and 1 more)")
        assert tokenizer.encode("ab") == [0, 3]


class TestMergesOfTextsThatAreNoTokens:
    """Other runtimes load such files and merge by texts; what is no token in the end is written as
    its characters."""

    @pytest.mark.parametrize(
        ("tokens", "merges", "text", "want"),
        [
            ((), ["a b"], "abc", ["a", "b", "c"]),
            (("bc",), ["a b", "b c"], "abc bc", ["a", "b", "c", "Ġ", "bc"]),
            (("abc",), ["a b", "ab c"], "abcab", ["abc", "a", "b"]),
            (("ab",), ["zz a", "a b"], "zzab", ["z", "z", "ab"]),
            ((), ["Ã ©"], "é", ["Ã", "©"]),
        ],
    )
    def test_byte_level(
        self, tokens: tuple[str, ...], merges: list[str], text: str, want: list[str]
    ) -> None:
        data = metadata(model="gpt2", tokens=[*BYTES, *tokens], merges=merges)
        tokenizer = warned(data, "merges", "is no token: written as its characters")
        ids = tokenizer.encode(text)
        assert [tokenizer.token_text(i) for i in ids] == want
        assert tokenizer.decode(ids) == text

    def test_lines(self) -> None:
        tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "bé"]
        types = [BYTE] * 256 + [1] * 3
        data = metadata(
            model="gemma4",
            tokens=tokens,
            token_type=np.array(types, np.int32),
            merges=["a b", "b é"],
            bos_token_id=0,
        )
        tokenizer = warned(data, "merges", "'ab' (and 1 more) is no token")
        ids = tokenizer.encode("abébé", add_special=False)
        want = ["a", "b", "<0xC3>", "<0xA9>", "bé"]
        assert [tokenizer.token_text(i) for i in ids] == want


@pytest.mark.parametrize("bad", [N, 0xFFFFFFFF, -1, "1", 1.0, True])
@pytest.mark.parametrize("name", ["bos", "eos", "eot", "eom", "unknown", "fim_pad", "fim_pre"])
def test_a_special_id_of_no_token(name: str, bad: Any) -> None:
    data = byte_level(**{f"{name}_token_id": bad})
    tokenizer = warned(data, f"{name}_token_id", "no token is used instead")
    assert tokenizer.bos_id is None
    assert tokenizer.eos_id is None
    assert not tokenizer.eog_ids


def test_the_default_of_the_kind_of_tokenizer_stands_in() -> None:
    data = score_driven(SPM, bos_token_id=999)
    assert warned(data, "bos_token_id", "token 1 is used").bos_id == 1
    data = score_driven(SPM, eos_token_id=999)
    assert warned(data, "eos_token_id", "token 2 is used").eog_ids == {2}


def test_falcons_default_only_where_it_is_special() -> None:
    types = np.ones(N, np.int32)
    types[11] = CONTROL
    data = byte_level(eos_token_id=N, token_type=types)
    assert warned(data, "token 11 is used instead").eos_id == 11


def test_prompts_that_shall_begin_with_it_do_without() -> None:
    tokenizer = warned(byte_level(add_bos_token=True, bos_token_id=N), "bos_token_id")
    assert len(tokenizer.encode("ab")) == 2


@pytest.mark.parametrize("kind", [7, 9, -1])
def test_a_type_that_does_not_exist_is_normal(kind: int) -> None:
    types = np.ones(N, np.int32)
    types[[40, 50]] = kind
    tokenizer = warned(byte_level(token_type=types), "token 40", str(kind), "(and 1 more)")
    assert tokenizer.decode(tokenizer.encode("aIS")) == "aIS"


def test_a_name_that_is_no_text() -> None:
    data = byte_level(general_name=7)
    warned(data, "general.name")
