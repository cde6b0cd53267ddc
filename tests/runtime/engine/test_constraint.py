"""Choices that keep to a grammar: what they get does not depend on company, drafts, or jumps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from slotmux.runtime.engine import masks
from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.constraint import MAX_FORCED, Constraint, ConstraintError
from slotmux.runtime.engine.masks import Masks
from slotmux.runtime.engine.request import FinishReason, SamplingParams
from tests.runtime.engine.fake_grammar import RandomGrammar, RandomMatcher
from tests.runtime.engine.fake_model import EOG, GREEDY, N_VOCAB, PIECES, EagerCosts
from tests.runtime.engine.test_core import KINDS, Bench, prompt_of

ENDS = frozenset({EOG})
SEEDS = range(12)


class Fixed:
    """A grammar of exactly these texts."""

    def __init__(self, *texts: Sequence[int]) -> None:
        self.texts = [list(text) for text in texts]

    def __call__(self) -> FixedMatcher:
        return FixedMatcher(self)


class FixedMatcher(RandomMatcher):
    def _next(self, tokens: list[int]) -> tuple[set[int], bool]:
        if tokens and tokens[-1] in self.grammar.eog:
            return set(), True
        n = len(tokens)
        texts = [text for text in self.grammar.texts if text[:n] == tokens]
        return {text[n] for text in texts if len(text) > n}, any(len(t) == n for t in texts)

    def forced(self) -> list[int]:
        ahead: list[int] = list(self.tokens)
        while True:
            tokens, may_end = self._next(ahead)
            if len(tokens) != 1 or may_end:
                return ahead[len(self.tokens) :]
            ahead += tokens


Fixed.eog = ENDS


def grammar(seed: int) -> RandomGrammar:
    return RandomGrammar(seed, N_VOCAB, ENDS)


def follows(matcher: RandomMatcher, tokens: Sequence[int]) -> bool:
    return matcher.n_valid(tokens) == len(tokens)


def alone(seed: int, kind: str, **options) -> tuple[list[int], FinishReason]:
    bench = Bench(kind, n_slots=1)
    _, receiver = bench.add(prompt_of(20, seed), constraint=grammar(seed), **options)
    bench.run()
    return receiver.tokens.get(0, []), receiver.last[0].finish_reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_of_constrained_and_free_choices_gets_what_each_gets_alone(kind: str) -> None:
    expected = {seed: alone(seed, kind, max_tokens=40) for seed in SEEDS}
    bench = Bench(kind, n_blocks=14 if KINDS[kind]["n_blocks"] else 0)  # some are parked
    free = [bench.add(prompt_of(30, 100 + i), max_tokens=30) for i in range(6)]
    bound = [
        bench.add(prompt_of(20, seed), constraint=grammar(seed), max_tokens=40) for seed in SEEDS
    ]
    bench.run()
    for request, receiver in free:
        bench.check(request, receiver)
    for seed, (_, receiver) in zip(SEEDS, bound, strict=True):
        got = receiver.tokens.get(0, []), receiver.last[0].finish_reason
        assert got == expected[seed]
        assert follows(grammar(seed)(), got[0])
    assert any(reason is FinishReason.STOP for _, reason in expected.values())
    assert any(len(tokens) > 10 for tokens, _ in expected.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forced_tokens_are_the_same_drawn_one_by_one(kind: str, temperature: float) -> None:
    n_steps = []
    for n_logprobs in (-1, 2):
        answers = []
        bench = Bench(kind)
        sampling = SamplingParams(temperature=temperature, seed=3, n_logprobs=n_logprobs)
        jobs = [
            bench.add(
                prompt_of(20, seed), constraint=grammar(seed), sampling=sampling, max_tokens=50
            )
            for seed in SEEDS
        ]
        bench.run()
        for _, receiver in jobs:
            last = receiver.last[0]
            answers.append((receiver.tokens[0], receiver.text[0], last.finish_reason))
            assert last.usage.n_generated == len(receiver.tokens[0])
            if n_logprobs >= 0:
                assert [e.token_id for e in receiver.logprobs[0]] == receiver.tokens[0]
        n_steps.append((bench.model.n_forwards, answers))
    assert n_steps[0][1] == n_steps[1][1]
    assert n_steps[0][0] < n_steps[1][0]  # fewer forwards: several tokens at once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_logprobs", [-1, 0])
def test_drafts_change_nothing(kind: str, n_logprobs: int) -> None:
    sampling = replace(GREEDY, n_logprobs=n_logprobs)
    options = {"max_tokens": 60, "sampling": sampling}
    expected = [alone(seed, kind, **options) for seed in SEEDS]
    spec = SpecConfig((MTP,), 4)
    bench = Bench(kind, spec=spec, costs=EagerCosts(), is_right=lambda slot, pos, j: True)
    jobs = [bench.add(prompt_of(20, seed), constraint=grammar(seed), **options) for seed in SEEDS]
    bench.run()
    for (_, receiver), want in zip(jobs, expected, strict=True):
        assert (receiver.tokens.get(0, []), receiver.last[0].finish_reason) == want
    counters = bench.core.meter.counters
    assert counters.n_draft_accepted > 0


def test_a_text_that_is_complete_ends_its_choice() -> None:
    bench = Bench()
    text = [5, 9, 13]
    _, receiver = bench.add(prompt_of(9), constraint=Fixed(text), min_tokens=20, ignore_eos=True)
    bench.run()
    assert receiver.tokens[0] == text
    assert receiver.text[0] == "".join(PIECES[t] for t in text)
    assert receiver.last[0].finish_reason is FinishReason.STOP
    assert bench.model.n_forwards == 1  # the first is drawn behind the prompt, the rest is forced


def test_where_a_text_may_end_the_model_decides() -> None:
    for n_tokens in (1, 2, 3):
        bench = Bench()
        _, receiver = bench.add(prompt_of(9), constraint=Fixed([5], [5, 9], [5, 9, 9]))
        bench.run()
        tokens = receiver.tokens[0]
        assert tokens in ([5, EOG], [5, 9, EOG], [5, 9, 9])
        _, again = bench.add(
            prompt_of(9), constraint=Fixed([5], [5, 9], [5, 9, 9]), min_tokens=n_tokens
        )
        bench.run()
        assert len([t for t in again.tokens[0] if t != EOG]) >= min(n_tokens, 3)


def test_nothing_to_say_is_an_empty_answer() -> None:
    bench = Bench()
    _, receiver = bench.add(prompt_of(9), constraint=Fixed([]))
    bench.run()
    # An empty text may end: whether it must is for the matcher to say.
    assert receiver.text[0] == ""
    assert receiver.last[0].finish_reason is FinishReason.STOP


def test_limits_and_stops_hold_within_forced_text() -> None:
    text = list(range(MAX_FORCED + 20))
    for limit in (1, 2, 7, MAX_FORCED + 5):
        bench = Bench()
        _, receiver = bench.add(prompt_of(9), constraint=Fixed(text), max_tokens=limit)
        bench.run()
        assert receiver.tokens[0] == text[:limit]
        assert receiver.last[0].finish_reason is FinishReason.LENGTH
    bench = Bench()
    _, receiver = bench.add(prompt_of(9), constraint=Fixed(text), stop=(PIECES[10],))
    _, other = bench.add(prompt_of(9), constraint=Fixed(text), stop_token_ids=frozenset({12}))
    bench.run()
    assert receiver.text[0] == "".join(PIECES[t] for t in text[:10])
    assert receiver.last[0].stop_string == PIECES[10]
    assert other.tokens[0] == text[:13]
    assert other.last[0].finish_reason is FinishReason.STOP


def test_choices_of_a_request_have_matchers_of_their_own() -> None:
    made = grammar(3)
    bench = Bench("hybrid")
    _, receiver = bench.add(
        prompt_of(20, 3), constraint=made, n=4, max_tokens=40, sampling=SamplingParams(seed=1)
    )
    bench.run()
    assert made.n_made == 4
    for index in range(4):
        lonely = Bench("hybrid")
        _, one = lonely.add(
            prompt_of(20, 3),
            constraint=made,
            max_tokens=40,
            sampling=SamplingParams(seed=1 + index),
        )
        lonely.run()
        assert one.tokens[0] == receiver.tokens[index]


def test_a_parked_choice_goes_on_where_it_was() -> None:
    expected = alone(4, "attention", max_tokens=40)
    bench = Bench(n_slots=2)
    _, receiver = bench.add(prompt_of(20, 4), constraint=grammar(4), max_tokens=40)
    for _ in range(5):
        bench.step()
        bench.core._park(bench.core.scheduler.active[0])
    bench.run()
    assert (receiver.tokens[0], receiver.last[0].finish_reason) == expected


def test_an_abort_leaves_nothing_behind() -> None:
    bench = Bench()
    text = [*range(20), *range(20)]
    request, receiver = bench.add(prompt_of(9), constraint=Fixed(text, [*text[:30], 60, 61]))
    bench.step()
    bench.core.abort(request.id, 0.0)
    bench.run()
    assert receiver.last[0].finish_reason is FinishReason.ABORT


class Failing(FixedMatcher):
    """Fails in one of its methods after some tokens."""

    def __init__(self, where: str, after: int, error: type[Exception]) -> None:
        super().__init__(Fixed([*range(40)], [*range(39), 50]))
        self.where, self.after, self.error = where, after, error

    def _maybe(self, where: str) -> None:
        if where == self.where and len(self.tokens) >= self.after:
            raise self.error("it is no use")

    def consume(self, token: int) -> None:
        self._maybe("consume")
        super().consume(token)

    def fill_mask(self, words) -> None:
        self._maybe("mask")
        super().fill_mask(words)

    def forced(self) -> list[int]:
        self._maybe("forced")
        return []


@pytest.mark.parametrize("where", ["consume", "mask", "forced"])
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("error", [ConstraintError, RuntimeError])
def test_a_grammar_that_fails_ends_its_choice_only(where, after, error) -> None:
    bench = Bench()
    free = bench.add(prompt_of(30), max_tokens=20)
    _, bound = bench.add(prompt_of(20, 1), constraint=grammar(1), max_tokens=40)
    _, receiver = bench.add(prompt_of(9), constraint=lambda: Failing(where, after, error))
    bench.run()
    last = receiver.last[0]
    assert last.finish_reason is FinishReason.ERROR
    assert last.error_code == "grammar_failed"
    assert last.error == ("it is no use" if error is ConstraintError else masks.FAILED)
    # What is forced is asked for as soon as a token is drawn: that token is lost with it.
    n_told = after - (where == "forced") if after else 0
    assert receiver.tokens.get(0, []) == [*range(n_told)]
    bench.check(*free)
    assert (bound.tokens[0], bound.last[0].finish_reason) == alone(1, "attention", max_tokens=40)


def test_a_grammar_that_cannot_begin_ends_its_choice_only() -> None:
    def refuse():
        raise ConstraintError("there is none")

    bench = Bench()
    free = bench.add(prompt_of(30), max_tokens=20)
    _, receiver = bench.add(prompt_of(9), constraint=refuse)
    bench.run()
    assert receiver.last[0].error == "there is none"
    bench.check(*free)


def test_a_grammar_that_hangs_ends_its_choice_only() -> None:
    release = threading.Event()

    class Hanging(Failing):
        def fill_mask(self, words) -> None:
            if len(self.tokens) == 2:
                release.wait(20)
            super().fill_mask(words)

    bench = Bench(n_slots=5)
    bench.core._masks = Masks(bench.model.ubatch, bench.model.logits, timeout_s=0.2)
    free = bench.add(prompt_of(30), max_tokens=20)
    hanging = [
        bench.add(prompt_of(9, i), constraint=lambda: Hanging("", 99, RuntimeError))[1]
        for i in range(3)
    ]
    # Both threads hang before its turn comes.
    _, behind = bench.add(prompt_of(20, 1), constraint=grammar(1), max_tokens=40)
    bench.run()
    _, later = bench.add(prompt_of(20, 1), constraint=grammar(1), max_tokens=40)
    bench.run()
    release.set()
    for receiver in hanging:
        assert receiver.last[0].error == masks.TOO_SLOW
        assert receiver.tokens[0] == [0, 1]
    bench.check(*free)
    expected = alone(1, "attention", max_tokens=40)
    for receiver in (behind, later):
        assert (receiver.tokens[0], receiver.last[0].finish_reason) == expected


def test_logits_that_are_no_numbers_are_told_as_such() -> None:
    bench = Bench()
    prompt = prompt_of(9)
    bench.model.nan_token = int(prompt[-1])
    _, receiver = bench.add(prompt, constraint=grammar(1))
    bench.run()
    assert receiver.last[0].error_code == "server_error"


def test_a_grammar_that_allows_nothing_is_told_as_such() -> None:
    class Mute(FixedMatcher):
        def fill_mask(self, words) -> None:
            words[:] = 0

    bench = Bench()
    _, receiver = bench.add(prompt_of(9), constraint=lambda: Mute(Fixed([1, 2], [3, 4])))
    bench.run()
    assert receiver.last[0].error_code == "grammar_failed"
    assert "no token" in receiver.last[0].error


@pytest.mark.parametrize("is_drafted", [False, True])
def test_what_was_drawn_before_there_was_no_token_is_told(is_drafted: bool) -> None:
    class MuteLater(RandomMatcher):
        def _next(self, tokens: list[int]) -> tuple[set[int], bool]:
            return set(range(EOG)), False

        def fill_mask(self, words) -> None:
            super().fill_mask(words)
            if len(self.tokens) >= 7:
                words[:] = 0

    options = {"spec": SpecConfig((MTP,), 4), "costs": EagerCosts()} if is_drafted else {}
    bench = Bench(**options, is_right=lambda slot, pos, j: True)
    _, receiver = bench.add(prompt_of(9), constraint=lambda: MuteLater(grammar(1)))
    bench.run()
    assert receiver.last[0].error == masks.NO_TOKEN
    assert len(receiver.tokens[0]) == 7
    assert (bench.core.meter.counters.n_draft_accepted > 0) == is_drafted


def test_masks_for_drafts_leave_the_matcher_where_it_was() -> None:
    text = [1, 2, 3, 4]
    constraint = Constraint(Fixed(text, [1, 2, 9], [1, 2, 3, 4, 5]), N_VOCAB)
    constraint.prepare((1, 2, 3, 7, 8))

    def allowed(i: int) -> list[int]:
        bits = np.unpackbits(constraint.masks[i].view(np.uint8), bitorder="little")
        return np.flatnonzero(bits).tolist()

    assert constraint.n_masks == 4  # behind the wrong draft nothing is drawn that counts
    assert [allowed(i) for i in range(4)] == [[1], [2], [3, 9], [4]]
    constraint.accept([1], may_jump=True)
    assert constraint.jumps == [2]
    assert constraint.n_valid([3, 4, 5, 6]) == 3
    constraint.prepare(())
    assert allowed(0) == [3, 9]
    constraint.accept([3, 4, 5], may_jump=True)
    assert constraint.over_at == 3
