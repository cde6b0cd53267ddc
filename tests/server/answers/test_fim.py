"""Fill-in-the-middle prompts: what goes where, what is cut, and that clients write no tokens."""

from __future__ import annotations

import pytest

from slotmux.runtime.tokenizer import FimIds, PromptTooLongError
from slotmux.server.answers.fim import ExtraFile, can_fill, fim_prompt, infill_prompt
from tests.server.fake_model import ByteTokenizer

PRE, SUF, MID, REP, SEP = 300, 301, 302, 303, 304


class FimTokenizer(ByteTokenizer):
    fim = FimIds(PRE, SUF, MID, REP, SEP)


class BosTokenizer(FimTokenizer):
    """Begins prompts with a token of its own, and has no names of files."""

    bos_id = 299
    fim = FimIds(PRE, SUF, MID)

    def encode(self, text, *, add_special=True, parse_special=False, max_tokens=None):
        assert not (text and parse_special), "a client's text may not become special tokens"
        ids = super().encode(text, max_tokens=max_tokens)
        return [self.bos_id, *ids] if add_special else ids


def test_the_suffix_stands_between_its_token_and_the_middle():
    assert fim_prompt(FimTokenizer(), "ab", "c") == [PRE, 97, 98, SUF, 99, MID]
    assert fim_prompt(BosTokenizer(), "", "c") == [299, PRE, SUF, 99, MID]


def test_a_model_can_fill_only_with_all_three_tokens():
    assert can_fill(FimTokenizer.fim)
    assert can_fill(BosTokenizer.fim)
    assert not can_fill(FimIds(PRE, SUF, None, REP, SEP))
    assert not can_fill(FimIds())


def test_a_part_that_is_too_long_is_refused_before_it_is_encoded_whole():
    with pytest.raises(PromptTooLongError):
        fim_prompt(FimTokenizer(), "a" * 50, "b", max_tokens=20)


def test_other_files_come_first_under_their_names():
    extra = [ExtraFile("x", "f.py"), ExtraFile("y")]
    ids = infill_prompt(FimTokenizer(), "a", "b", [99], extra, n_near=64, n_extra=100)
    told = [REP, *b"myproject\n", SEP, *b"f.py\nx", SEP, *b"tmp\ny", SEP, *b"filename\n"]
    assert ids == [*told, PRE, 97, 99, SUF, 98, MID]
    ids = infill_prompt(BosTokenizer(), "a", "b", [], extra, n_near=64, n_extra=100)
    snippet = b"\n\n--- snippet ---\n\n"
    assert ids == [*snippet, *b"x", *snippet, *b"y", 299, PRE, 97, SUF, 98, MID]


def test_what_is_near_the_gap_is_kept():
    tokenizer, before, after = FimTokenizer(), "abcdefghij", "klmnopqrst"
    ids = infill_prompt(tokenizer, before, after, [1], [], n_near=16, n_extra=3)
    # 12 before, 4 after less the prompt's one and two of the layout; the end of other files
    assert ids == [*b"me\n", PRE, *before.encode(), 1, SUF, *b"k", MID]
    ids = infill_prompt(tokenizer, before, after, [], [], n_near=8, n_extra=0)
    assert ids == [PRE, *b"efghij", SUF, MID]
