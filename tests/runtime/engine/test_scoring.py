"""Log-probabilities of prompts: complete and right however the engine computed the prompt."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.request import FinishReason, InvalidRequestError, SamplingParams
from tests.runtime.engine.fake_model import EOG, GREEDY, EagerCosts, digest_of, draw
from tests.runtime.engine.test_core import KINDS, Bench, prompt_of


def check_scores(bench, request, receiver):
    """Every token of the prompt but the first, each after those before it."""
    got = receiver.prompt_logprobs
    assert got is not None
    model = bench.model
    assert len(got.logprobs) == len(request.prompt) - 1
    for i, token in enumerate(request.prompt[1:], 1):
        digest = digest_of(request.prompt[:i], model.kv.n_blocks > 0, model.rows.n_rows > 0)
        logprobs, order = draw(digest, GREEDY, (), 0)[1:]
        assert got.logprobs[i - 1] == logprobs[token]
        assert got.ranks[i - 1] == 1 + order.index(token)
        assert got.top_ids[i - 1].tolist() == order[: request.n_prompt_logprobs]
        assert (got.top_logprobs[i - 1] == logprobs[order[: request.n_prompt_logprobs]]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ubatch", [3, 7, 32])
def test_scores_in_a_crowd_equal_the_oracle(kind, n_ubatch):
    bench = Bench(kind, n_ubatch=n_ubatch, max_step_s=0.05)
    jobs = [
        bench.add(
            prompt_of(1 + 11 * i % 70, i),
            max_tokens=1 + i * 7 % 20,
            n_prompt_logprobs=i % 4 - 1,
            n=1 + i % 3,
            sampling=SamplingParams(seed=i, temperature=i % 2),
        )
        for i in range(14)
    ]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
        if request.n_prompt_logprobs >= 0:
            check_scores(bench, request, receiver)
        else:
            assert receiver.prompt_logprobs is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_from_the_cache_is_computed_as_far_as_it_is_asked_about(kind):
    bench = Bench(kind)
    bench.add(prompt_of(60), max_tokens=4)
    bench.run()
    n_before = bench.model.n_tokens_computed
    request, receiver = bench.add(prompt_of(60), max_tokens=1, n_prompt_logprobs=2)
    bench.run()
    assert bench.model.n_tokens_computed - n_before == 60
    assert receiver.last[0].usage.n_cached == 0
    check_scores(bench, request, receiver)
    _, receiver = bench.add(prompt_of(60), max_tokens=1)
    bench.run()
    assert receiver.last[0].usage.n_cached >= 48, "what it computed is there for others"


@pytest.mark.parametrize("kind", KINDS)
def test_parking_in_the_middle_of_a_prompt_loses_no_score(kind):
    bench = Bench(kind, n_ubatch=8)
    request, receiver = bench.add(prompt_of(90, 3), max_tokens=9, n_prompt_logprobs=3)
    for n_steps in (3, 1, 5, 2):
        for _ in range(n_steps):
            bench.step()
        if bench.core.scheduler.active:
            bench.core._park(bench.core.scheduler.active[0])
    assert not receiver.last
    bench.run()
    bench.check(request, receiver)
    check_scores(bench, request, receiver)
    assert bench.model.n_scored == 89, "nothing was scored twice"


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_for_no_other_prompt_but_others_wait_for_it(kind):
    bench = Bench(kind, n_ubatch=16)
    jobs = [
        bench.add(prompt_of(90), max_tokens=5, n_prompt_logprobs=k, client=str(i))
        for i, k in enumerate((-1, 2, 0, -1))
    ]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
        if request.n_prompt_logprobs >= 0:
            check_scores(bench, request, receiver)
    assert jobs[3][1].last[0].usage.n_cached >= 48


def test_parking_while_it_generates_reuses_the_whole_prefix():
    bench = Bench(n_ubatch=64)
    request, receiver = bench.add(prompt_of(60), max_tokens=30, n_prompt_logprobs=0)
    bench.step()
    bench.step()
    bench.core._park(bench.core.scheduler.active[0])
    n_before = bench.model.n_tokens_computed
    bench.run()
    assert bench.model.n_tokens_computed - n_before < 60
    bench.check(request, receiver)
    check_scores(bench, request, receiver)


def test_drafts_beside_change_no_score():
    spec = SpecConfig((MTP,), n_max=3)
    bench = Bench("hybrid", spec=spec, is_right=lambda *at: sum(at) % 3 > 0, costs=EagerCosts())
    jobs = [
        bench.add(prompt_of(5 + 9 * i, i), max_tokens=30, n_prompt_logprobs=1 - i % 2)
        for i in range(8)
    ]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
        check_scores(bench, request, receiver)


@pytest.mark.parametrize("n", [1, 3])
def test_no_token_at_all(n):
    bench = Bench()
    beside = bench.add(prompt_of(20, 5), max_tokens=12, ignore_eos=True)
    request, receiver = bench.add(prompt_of(41), max_tokens=0, n_prompt_logprobs=1, n=n)
    _, silent = bench.add(prompt_of(33), max_tokens=0)
    full, filled = bench.add(prompt_of(128), max_tokens=0, n_prompt_logprobs=0)
    bench.run()
    bench.check(*beside)
    check_scores(bench, request, receiver)
    check_scores(bench, full, filled)
    for answer, k in ((receiver, n), (silent, 1), (filled, 1)):
        assert sorted(answer.last) == list(range(k))
        for last in answer.last.values():
            assert last.finish_reason is FinishReason.LENGTH
            assert last.usage.n_generated == 0
            assert last.error is None
        assert not any(answer.tokens.values())


def test_what_is_no_number_ends_the_request():
    bench = Bench()
    prompt = [5, 6, 7, 8, 9]
    bench.model.nan_token = 7
    _, receiver = bench.add(prompt, max_tokens=5, n_prompt_logprobs=1)
    other = bench.add([5, 6, 8, 9], max_tokens=5, n_prompt_logprobs=1)
    bench.run()
    assert receiver.last[0].finish_reason is FinishReason.ERROR
    assert receiver.prompt_logprobs is None
    assert other[1].prompt_logprobs is not None


@pytest.mark.parametrize("n", [-2, 21])
def test_too_many_alternatives_are_refused(n):
    with pytest.raises(InvalidRequestError) as refused:
        Bench().add([1, 2], n_prompt_logprobs=n)
    assert refused.value.field == "prompt_logprobs"
    with pytest.raises(InvalidRequestError):
        Bench().add(np.arange(129) % EOG, max_tokens=0)


def test_generating_requests_get_a_token_in_every_step():
    """However long the scored prompt is, and whatever it costs."""
    bench = Bench(n_ubatch=32, n_slots=2, max_step_s=0.05)
    request, receiver = bench.add(prompt_of(6), max_tokens=40, ignore_eos=True)
    bench.step()
    bench.add(prompt_of(120, 1), max_tokens=1, n_prompt_logprobs=5)
    before, n_steps = len(receiver.tokens[0]), 0
    while bench.model.n_scored < 119:
        bench.step()
        n_steps += 1
    assert len(receiver.tokens[0]) - before == n_steps
    assert bench.model.n_scored == 119
    bench.run()
    bench.check(request, receiver)
