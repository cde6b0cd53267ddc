"""The made-up text: the same for the same seed, whole, and cut as the server cuts it."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from tools.demo.corpus import Batch, demo_tokenizer, encode_chat, rows
from tools.demo.text.chats import SKILLS, chat
from tools.demo.text.phrases import Skill
from tools.demo.text.words import codewords
from tools.demo.vocab import IM_END, IM_START, START, render

TOKENIZER = demo_tokenizer(512, seed=3, n_texts=200)


def test_a_seed_gives_the_same_rows_and_another_seed_others() -> None:
    def made(seed: str) -> Batch:
        return rows(seed, 6, 128, TOKENIZER)

    first, again, other = made("a"), made("a"), made("b")
    assert np.array_equal(first.tokens, again.tokens)
    assert np.array_equal(first.weights, again.weights)
    assert not np.array_equal(first.tokens, other.tokens)
    assert first.tokens.shape == first.weights.shape == (6, 129)
    assert demo_tokenizer(512, seed=3, n_texts=200).to_str() == TOKENIZER.to_str()


@pytest.mark.parametrize("skill", [skill for skill, _ in SKILLS])
def test_every_template_is_filled(skill: Skill) -> None:
    rng = random.Random(11)
    for _ in range(150):
        for text in (part for turn in skill(rng) for part in turn):
            assert text == text.strip() != ""
            assert not re.search(r"\$[a-z]|\||(?<!\n)  (?! )", text) or "```" in text, text


def test_codewords_are_as_told() -> None:
    """Whatever is asked for later stands in the conversation, letter by letter."""
    rng = random.Random(5)
    n_asked = 0
    for _ in range(400):
        messages = chat(rng, 500)
        for i, (_, text) in enumerate(messages):
            if (found := re.fullmatch(r"The (codeword|secret word) is (\S+)\.", text)) and i > 0:
                n_asked += 1
                assert any(found[2] in said for _, said in messages[:i])
    assert n_asked > 20
    assert len(set(codewords(rng, 20))) == 20


def test_a_conversation_is_cut_like_its_rendered_text() -> None:
    rng = random.Random(8)
    for _ in range(50):
        messages = chat(rng, 400)
        ids, weights = encode_chat(TOKENIZER, messages)
        assert ids == TOKENIZER.encode(render(messages)).ids
        answered = [i for i, w in zip(ids, weights, strict=True) if w == 1.0]
        assert answered.count(TOKENIZER.token_to_id(IM_END)) == len(messages) // 2


def test_any_bytes_can_be_encoded() -> None:
    text = "Grüße, 你好 \x00\t\n 🦊 ~" + "".join(map(chr, range(256)))
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text
    assert [TOKENIZER.token_to_id(t) for t in (START, IM_START, IM_END)] == [0, 1, 2]
