"""Streamed text is whole characters, and together equals decoding at once (class N)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import Detokenizer, Tokenizer
from tests.runtime.tokenizer.test_references import tokenizer as reference_tokenizer
from tests.runtime.tokenizer.vocabularies import BYTES, CONTROL, byte_level, score_driven

BYTE_LEVEL = Tokenizer.from_metadata(byte_level({"<|end|>": CONTROL}, merges=("Ã ©", "â Ĥ")))
END = 258
SCORES = Tokenizer.from_metadata(score_driven({"▁": -1.0, "é": -2.0}))


def stream(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> list[str]:
    detokenizer = Detokenizer(tokenizer, skip_special)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, END), max_size=40), st.booleans())
def test_any_tokens_give_the_text_of_decoding_them(ids: list[int], skip: bool) -> None:
    pieces = stream(BYTE_LEVEL, ids, skip)
    assert "".join(pieces) == BYTE_LEVEL.decode(ids, skip_special=skip)
    "".join(pieces).encode()  # raises for half a surrogate pair


NEW_KINDS = ["pre gemma4", "pre mmbert", "model whitespace", "model hybriddna", "model plamo2"]
T5 = "model t5, space first 1, spaces merged 0"


@pytest.mark.parametrize("name", [*NEW_KINDS, T5])
def test_every_kind_streams_whole_characters(name: str) -> None:
    tokenizer = reference_tokenizer(name)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=30), st.booleans())
    def check(ids: list[int], skip: bool) -> None:
        pieces = stream(tokenizer, ids, skip)
        assert "".join(pieces) == tokenizer.decode(ids, skip_special=skip)
        "".join(pieces).encode()

    check()
    text = "naïve 漢字 \U0001f600 \n\n  end"
    decoded = "".join(stream(tokenizer, tokenizer.encode(text, add_special=False)))
    # Some put a space first, some know no such characters.
    assert decoded.removeprefix(" ") == KEPT.get(name, text)


KEPT = {"model whitespace": "naïveend", T5: "naïve 漢字      end"}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20), st.data())
def test_characters_come_whole_however_their_bytes_are_split(
    text: str, data: st.DataObject
) -> None:
    encoded = text.encode()
    ids = [BYTES.index(BYTES[byte]) for byte in encoded]
    pieces = stream(BYTE_LEVEL, ids)
    assert "".join(pieces) == text
    assert all(piece == "" or len(piece) == 1 for piece in pieces)
    cut = data.draw(st.integers(0, len(ids)))
    broken = stream(BYTE_LEVEL, ids[:cut])
    assert "".join(broken) == encoded[:cut].decode("utf-8", "replace")


@pytest.mark.parametrize(
    "data",
    [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80"],
    ids=["2 of 1", "3 of 2", "4 of 3", "never", "overlong", "surrogate", "too large"],
)
def test_bytes_that_are_no_text_become_replacement_characters(data: bytes) -> None:
    ids = [*data, ord("a")]
    pieces = stream(BYTE_LEVEL, ids)
    assert "".join(pieces) == data.decode("utf-8", "replace") + "a"
    assert "\ufffd" in "".join(pieces)
    assert "".join(stream(BYTE_LEVEL, list(data))) == data.decode("utf-8", "replace")


def test_control_tokens_are_shown_only_if_asked_for() -> None:
    ids = [ord("a"), END, ord("b")]
    assert stream(BYTE_LEVEL, ids) == ["a", "", "b", ""]
    assert stream(BYTE_LEVEL, ids, skip_special=False) == ["a", "<|end|>", "b", ""]
    assert BYTE_LEVEL.token_bytes(END) == b"<|end|>"
    assert BYTE_LEVEL.token_bytes(END, skip_special=True) == b""
    assert BYTE_LEVEL.is_control(END)
    assert not BYTE_LEVEL.is_control(ord("a"))


def test_a_control_token_inside_a_character_does_not_break_it() -> None:
    assert "".join(stream(BYTE_LEVEL, [0xC3, END, 0xA9])) == "é"


def test_byte_tokens_join_to_characters() -> None:
    ids = [3 + byte for byte in "é".encode()]
    assert stream(SCORES, [*ids, 259]) == ["", "é", " ", ""]


@pytest.mark.parametrize("bad", [-1, BYTE_LEVEL.n_vocab])
def test_ids_outside_the_vocabulary_are_refused(bad: int) -> None:
    with pytest.raises(IndexError):
        Detokenizer(BYTE_LEVEL).push(bad)
    with pytest.raises(IndexError):
        BYTE_LEVEL.decode([bad])


@pytest.mark.real
def test_a_push_costs_little(smollm2_path: Path) -> None:
    tokenizer = Tokenizer.from_metadata(open_gguf(smollm2_path).metadata)
    ids = tokenizer.encode("The quick brown fox, déjà vu, 漢字 and \U0001f600. " * 500)
    start = time.perf_counter()
    text = "".join(stream(tokenizer, ids))
    print(f"{(time.perf_counter() - start) / len(ids) * 1e6:.2f} us a push")
    assert text == tokenizer.decode(ids)
