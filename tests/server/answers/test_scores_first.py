"""A choice that is ahead of its prompt's log-probabilities is told after them, in a stream."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.engine.request import FinishReason, Output
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.server.answers.prompt_scores import PromptScores, ScoresFirst
from tests.server.fake_model import ByteTokenizer

SCORES = PromptLogprobs.empty(1, 1)


def said(text: str) -> Output:
    return Output(0, text)


def test_others_of_the_prompt_wait_and_other_prompts_do_not():
    first = ScoresFirst(2)
    a, b, c = said("a"), said("b"), said("c")
    scored = Output(0, prompt_logprobs=SCORES)
    assert first.order([(1, a), (3, b)]) == []
    assert first.order([(2, scored), (3, c)]) == [(2, scored), (3, b), (3, c)]
    assert first.order([(0, scored), (1, c)]) == [(0, scored), (1, a), (1, c)]
    assert first.order([(1, b), (2, a)]) == [(1, b), (2, a)]


def test_a_first_choice_that_is_cut_before_them_keeps_nobody_waiting():
    first = ScoresFirst(2)
    a, cut = said("a"), Output(0, finish_reason=FinishReason.LENGTH)
    assert first.order([(1, a)]) == []
    assert first.order([(0, cut)]) == [(0, cut), (1, a)]


class SpaceTokenizer(ByteTokenizer):
    """Begins with a token and a space of its own, as SentencePiece vocabularies do."""

    def token_bytes(self, token_id, *, skip_special=False):
        return b"<s>" if token_id == 256 else super().token_bytes(token_id)

    def decode(self, ids, *, skip_special=True):
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("ids", "echo", "offsets"),
    [
        ([*b"ab"], "ab", [0, 1]),
        ([256, 32, *b"ab"], "ab", [0, 0, 0, 1]),
        ([256, 32, *b"ab"], "<s> ab", [0, 3, 4, 5]),
        ([*"é🙂x".encode()], "é🙂x", [0, 0, 1, 1, 1, 1, 2]),
        ([0xE2, 0x82, *b"x"], "��x", None),  # cut in the middle of a character
        ([0xFF, *b"x"], "\ufffdx", [0, 1]),
    ],
)
def test_offsets_count_characters_of_the_echo(ids, echo, offsets):
    scores = PromptScores(SpaceTokenizer(), [ids], [echo], n_echoed=0)
    n = len(ids) - 1
    found = PromptLogprobs(
        np.zeros(n, np.float32), np.ones(n, np.int32), np.zeros((n, 0), np.int32),
        np.zeros((n, 0), np.float32),
    )  # fmt: skip
    told = scores.echoed(0, found)
    assert len(told["text_offset"]) == len(ids)
    assert told["text_offset"] == sorted(told["text_offset"])
    if offsets is not None:
        assert told["text_offset"] == offsets
