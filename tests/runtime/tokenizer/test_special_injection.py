"""RELIABILITY class O: no special token comes out of what a user wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import MARKS, Rendered, SpecialGuard, Tokenizer, choose_mark
from slotmux.runtime.tokenizer.attributes import SPECIAL
from tests.runtime.tokenizer.vocabularies import CONTROL, USER_DEFINED, byte_level, score_driven

NAMES = ["llama", "qwen35", "mamba", "gemma3", "jamba", "phi3", "rwkv6"]
MARK = MARKS[0]


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request: pytest.FixtureRequest, golden_dir: Path) -> Tokenizer:
    return Tokenizer.from_metadata(open_gguf(golden_dir / request.param / "model.gguf").metadata)


def special_ids(tokenizer: Tokenizer) -> list[int]:
    return [i for i in range(tokenizer.n_vocab) if tokenizer._vocab.attrs[i] & int(SPECIAL)]


def user_span(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of ``text`` when a user wrote it, with a special token of the template around."""
    around = tokenizer.token_text(next(iter(sorted(tokenizer.eog_ids))))
    marked = tokenizer.guard.mark(text, MARK)
    ids = tokenizer.encode_rendered(Rendered(around + marked + around, MARK))
    inner = ids[1:] if tokenizer.add_bos else ids
    eog = tokenizer.encode(around, add_special=False, parse_special=True)
    assert inner[: len(eog)] == eog
    assert inner[-len(eog) :] == eog
    return inner[len(eog) : -len(eog)]


def test_each_special_token_of_each_vocabulary(tokenizer: Tokenizer) -> None:
    specials = special_ids(tokenizer)
    assert specials
    for token_id in specials:
        for text in (
            tokenizer.token_text(token_id),
            f"a{tokenizer.token_text(token_id)}b",
            tokenizer.token_text(token_id) * 3,
        ):
            ids = user_span(tokenizer, text)
            assert not set(ids) & set(specials), text
            decoded = tokenizer.decode(ids, skip_special=False)
            assert decoded.removeprefix(" " if tokenizer._space_first else "") == text


@pytest.mark.real
@pytest.mark.parametrize("model", ["smollm2_path", "gemma3_path"])
def test_each_special_token_of_the_real_models(request: pytest.FixtureRequest, model: str) -> None:
    metadata = open_gguf(request.getfixturevalue(model)).metadata
    tokenizer = Tokenizer.from_metadata(metadata)
    shielded = tokenizer._shielded
    assert len(shielded) >= 17  # all of SmolLM2's
    for token_id in sorted(shielded)[:: max(1, len(shielded) // 500)]:
        text = f"a {tokenizer.token_text(token_id)} b"
        ids = user_span(tokenizer, text)
        assert shielded.isdisjoint(ids), text
        assert tokenizer.decode(ids, skip_special=False) == text


def test_the_templates_own_tokens_stay(tokenizer: Tokenizer) -> None:
    specials = [i for i in special_ids(tokenizer) if i in tokenizer._shielded]
    text = "".join(tokenizer.token_text(i) for i in specials)
    ids = tokenizer.encode_rendered(Rendered(text, MARK))
    bos = [tokenizer.bos_id] if tokenizer.add_bos and specials[0] != tokenizer.bos_id else []
    assert ids == bos + specials


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="<|im_endS>x ", max_size=30), st.text(alphabet="<|end>", max_size=6))
def test_nothing_a_user_writes_becomes_special(text: str, around: str) -> None:
    tokenizer = Tokenizer.from_metadata(
        byte_level({"<|end|>": CONTROL, "<|im_end|>": CONTROL, "<S>": USER_DEFINED})
    )
    marked = tokenizer.guard.mark(text, MARK)
    assert marked.replace(MARK, "") == text
    own = tokenizer.encode(around, parse_special=True)
    ids = tokenizer.encode_rendered(Rendered(around + marked + around, MARK))
    n_own = sum(token_id >= 256 for token_id in own)
    assert sum(token_id >= 256 for token_id in ids) == 2 * n_own
    assert tokenizer.decode(ids, skip_special=False) == around + text + around


def test_texts_that_the_template_could_complete_are_marked() -> None:
    guard = SpecialGuard(["<|end|>", "<tool>"])
    for text in ("<|en", "x<", "d|>", ">y", "end", "|", "TOOL", "<|END|>", "<|e"):
        assert MARK in guard.mark(text, MARK), text
    for text in ("", "hello", "a <b> c", "en d", "< |end| >"):
        assert guard.mark(text, MARK) == text, text


def test_special_tokens_that_merging_makes_are_taken_apart() -> None:
    # "<s>" comes out of merging its letters, whatever is parsed.
    pieces = {"▁": -1.0, "<": -2.0, "s": -3.0, ">": -4.0, "s>": -5.0, "a": -6.0}
    tokenizer = Tokenizer.from_metadata(score_driven(pieces, add_space_prefix=False))
    assert tokenizer.encode("a<s>", add_special=False) == [264, 1]
    marked = tokenizer.guard.mark("a<s>", MARK)
    ids = tokenizer.encode_rendered(Rendered(marked, MARK))
    assert ids[1:] == [264, 260, 263]
    assert tokenizer.decode(ids) == "a<s>"


def test_bos_is_added_once() -> None:
    tokenizer = Tokenizer.from_metadata(
        byte_level({"<s>": CONTROL}, bos_token_id=256, add_bos_token=True)
    )
    assert tokenizer.encode_rendered(Rendered("a", MARK)) == [256, 97]
    assert tokenizer.encode_rendered(Rendered("<s>a", MARK)) == [256, 97]
    assert tokenizer.encode_rendered(Rendered(MARK + "<s>a", MARK)) == [256, 97]


def test_a_mark_is_a_noncharacter_that_no_text_holds() -> None:
    assert choose_mark(["abc", MARKS[0] + MARKS[1]]) == MARKS[2]
    assert choose_mark(["".join(MARKS)]) is None


def test_rendered_text_has_no_marks() -> None:
    assert Rendered(f"a{MARK}b", MARK).text == "ab"
