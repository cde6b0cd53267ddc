"""Guesses that keep to grammars: the same answers, in fewer steps."""

from __future__ import annotations

import pytest

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.request import SamplingParams
from slotmux.runtime.speculation import speculator
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.engine.test_constraint import SEEDS, alone, grammar
from tests.runtime.engine.test_core import KINDS, Bench, prompt_of

ALWAYS, NEVER = -1.0, 2.0
DRAWN = SamplingParams(temperature=1.0, seed=3, n_logprobs=0)  # forced tokens are drawn, too


def crowd(kind: str, is_right, sampling: SamplingParams, n_free: int = 0) -> Bench:
    """A third of the slots free; each answer is what it is alone and without drafts."""
    bench = Bench(kind, spec=SpecConfig((MTP,), 4), costs=EagerCosts(), is_right=is_right)
    options = {"max_tokens": 40, "sampling": sampling}
    free = [bench.add(prompt_of(30, 100 + i), max_tokens=30) for i in range(n_free)]
    jobs = [bench.add(prompt_of(20, seed), constraint=grammar(seed), **options) for seed in SEEDS]
    bench.run()
    for seed, (_, receiver) in zip(SEEDS, jobs, strict=True):
        got = receiver.tokens.get(0, []), receiver.last[0].finish_reason
        assert got == alone(seed, kind, **options)
    for request, receiver in free:
        bench.check(request, receiver)
    return bench


@pytest.mark.parametrize("guided", [ALWAYS, speculator.GUIDED, NEVER])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_same_guided_or_not(kind, guided, monkeypatch):
    monkeypatch.setattr(speculator, "GUIDED", guided)
    bench = crowd(kind, lambda slot, pos, j: (slot + pos) % 3 > 0, DRAWN, n_free=4)
    assert (bench.model.drafter.n_guided > 0) == (guided != NEVER)


def test_guesses_that_ask_the_grammar_are_right_where_the_block_is(monkeypatch):
    monkeypatch.setattr(speculator, "GUIDED", NEVER)
    blind = crowd("hybrid", lambda *_: True, DRAWN)
    monkeypatch.setattr(speculator, "GUIDED", ALWAYS)
    seeing = crowd("hybrid", lambda *_: True, DRAWN)
    counters = seeing.core.meter.counters
    # All but those behind an end that only the text shows.
    assert counters.n_draft_accepted > 0.95 * counters.n_draft_tokens
    assert seeing.model.n_forwards < 0.7 * blind.model.n_forwards


def test_a_grammar_that_cuts_is_asked_and_after_a_while_not():
    """One that allows everything is never asked: that would cost and give nothing."""
    bench = Bench(
        "hybrid", spec=SpecConfig((MTP,), 4), costs=EagerCosts(), is_right=lambda *_: True
    )
    bench.add(prompt_of(20), constraint=_Anything, max_tokens=60)
    bench.run()
    assert bench.model.drafter.n_guided == 0
    assert bench.core.meter.counters.n_draft_accepted > 20
    bench.add(prompt_of(20), constraint=grammar(3), max_tokens=60)
    bench.run()
    assert bench.model.drafter.n_guided > 0
    cut = 1.0
    n_steps = 0
    while cut > speculator.GUIDED:
        cut, n_steps = cut * speculator.CUT_FADE, n_steps + 1
    assert n_steps < 100  # the longest time without another try


class _Anything:
    """A matcher of free text."""

    is_stopped = False

    def consume(self, token):
        pass

    def rollback(self, n_tokens):
        pass

    def fill_mask(self, words):
        words[:] = 0xFFFFFFFF

    def forced(self):
        return []

    def n_valid(self, tokens):
        return len(tokens)
