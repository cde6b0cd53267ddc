"""Control tokens that a reader of the output asked to see."""

from __future__ import annotations

from slotmux.runtime.tokenizer import Detokenizer


class Pieces:
    """Token i is byte i; 300 is a control token."""

    def __init__(self) -> None:
        self.whole = ({}, {})

    def visible(self, token_id: int) -> bytes:
        return b"" if token_id == 300 else bytes([token_id])

    def shown(self, token_id: int) -> bytes:
        return b"<call>" if token_id == 300 else bytes([token_id])


class Tokenizer:
    pieces = Pieces()


def test_only_the_stream_that_asked_sees_them():
    plain, asking = Detokenizer(Tokenizer()), Detokenizer(Tokenizer())
    asking.show([300])
    ids = [ord("a"), 300, ord("b")]
    assert "".join(map(asking.push, ids)) == "a<call>b"
    assert "".join(map(plain.push, ids)) == "ab"


def test_a_character_that_was_begun_ends_before_them():
    asking = Detokenizer(Tokenizer())
    asking.show([300])
    assert asking.push(0xC3) == ""
    assert asking.push(300) == "�<call>"
    assert asking.push(ord("x")) == "x"
