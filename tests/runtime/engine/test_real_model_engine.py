"""The real engine on real models and kernels: a request's answer does not depend on its company.

Tokens and logprobs are compared bit for bit; memory that holds nothing is filled with NaN, and a
NaN in the logits ends a request with an error, so a stale read cannot pass.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest

from tests.architectures import CROWDED
from tests.runtime.engine.crowd import (
    GREEDY,
    LOOSE,
    Call,
    Joined,
    alone,
    assert_equal,
    copy_of,
    mixed_requests,
    request_of,
    serving,
    together,
)
from tests.runtime.models.isolation import golden, loaded

N_SLOTS = 8
# Small enough that long prompts take several steps, and no two cuts are alike.
SIZES = {"n_ctx": 1024, "n_slots": N_SLOTS, "n_ubatch": 48, "n_outputs": N_SLOTS}


@pytest.fixture(scope="module", params=CROWDED)
def served(request, kernel_cache_dir):
    """A loaded model, prompts, a crowd of requests and what each of them gets alone."""
    reference = golden(request.param)
    requests = mixed_requests(reference.prompts, 20)
    with loaded(reference.path, kernel_cache_dir, **SIZES, n_checkpoints=6) as model:
        with serving(model) as engine:
            want = alone(engine, requests)
        assert any(answer.tokens for answer in want)
        yield model, reference, requests, want


def test_a_crowd_gets_what_each_gets_alone(served):
    model, _, requests, want = served
    with serving(model) as engine:
        assert_equal("at once", together(engine, requests), want)
        assert_equal("again, from the cache", together(engine, requests), want)
        backwards = together(engine, requests[::-1], cache_prompt=False)
        assert_equal("backwards", backwards[::-1], want)
    rng = random.Random(1)
    with serving(model, n_prompt_beside=5) as engine:
        pauses = [rng.random() * 0.004 for _ in requests]
        assert_equal("one after another", together(engine, requests, pauses), want)


def test_any_slot_gives_the_same(served):
    model, _, requests, want = served
    with serving(model) as engine:
        for slot in range(N_SLOTS):
            got = Call(engine, copy_of(requests[1], slot_id=slot, cache_prompt=False)).wait()
            assert_equal(f"slot {slot}", got, want[1:2])


def test_a_prefix_from_the_cache_equals_a_computed_one(served):
    """Conversations that grow, as chats do: each turn begins with all of the turn before."""
    model, reference, _, _ = served
    text = reference.prompts[2]
    turns = [text[:n] for n in (40, 41, 63, 64, 65, 96, 130, 150)]
    requests = [request_of(turn, max_tokens=9, boundaries=(32, 64, 100)) for turn in turns]
    with serving(model) as engine:
        want = alone(engine, requests)
        for _ in range(2):
            got = [Call(engine, copy_of(request)).wait()[0] for request in requests]
            assert_equal("turn by turn", got, want)
        assert all(answer.usage.n_cached >= 16 for answer in got), "nothing was reused"
        branch = [request_of(text[:100] + text[i : i + 20], max_tokens=6) for i in range(6)]
        assert_equal("branches", together(engine, branch), alone(engine, branch))


def test_a_prefix_of_a_running_request_is_reused(served):
    model, reference, _, _ = served
    prompt = reference.prompts[2]
    long = request_of(prompt, max_tokens=200, boundaries=(64,))
    short = request_of(prompt[:100], max_tokens=5)
    with serving(model) as engine:
        want = alone(engine, [long, short])
        first = Joined(engine, copy_of(long), copy_of(short))
        second = first.wait_for_second()
        assert_equal("beside", [*first.wait(), *second], want)
        assert first.ran_beside, "the first was to run on beside the second"
        assert second[0].usage.n_cached >= 48


def test_choices_of_one_prompt_are_single_requests(served):
    model, reference, _, _ = served
    for n, prompt in ((4, reference.prompts[2]), (N_SLOTS, reference.prompts[1])):
        many = request_of(prompt, n=n, sampling=replace(LOOSE, seed=7), max_tokens=12)
        single = [copy_of(many, n=1, sampling=replace(many.sampling, seed=7 + i)) for i in range(n)]
        with serving(model) as engine:
            want = alone(engine, single)
            assert_equal("choices", Call(engine, copy_of(many)).wait(), want)
            others = mixed_requests(reference.prompts, 5, seed=3)
            calls = [Call(engine, copy_of(r)) for r in (*others, many)]
            assert_equal("choices in a crowd", calls[-1].wait(), want)
            for call in calls:
                call.wait()
        assert len({tuple(answer.tokens) for answer in want}) > 1


def test_strangers_that_leave_change_nothing(served):
    """Clients abort at random times, while prompts are computed and while tokens come."""
    model, reference, requests, want = served
    rng = random.Random(2)
    strangers = mixed_requests(reference.prompts, 60, seed=5)
    with serving(model) as engine:

        def disturb():
            for request in strangers:
                call = Call(engine, copy_of(request, max_tokens=100, n=rng.choice((1, 1, 3))))
                time.sleep(rng.random() * 0.004)
                call.abort()

        thread = threading.Thread(target=disturb)
        thread.start()
        got = together(engine, requests, [rng.random() * 0.01 for _ in requests])
        thread.join()
        assert_equal("beside those who left", got, want)


def test_an_end_token_ends_and_min_tokens_delays_it(served):
    model, reference, _, _ = served
    request = request_of(reference.prompts[1], max_tokens=12)
    with serving(model) as engine:
        tokens = alone(engine, [request])[0].tokens
    end = tokens[5]
    n_before = tokens.index(end)
    with serving(model, eog_ids=[end]) as engine:
        got = alone(engine, [request, copy_of(request, min_tokens=n_before + 2)])
    assert got[0].tokens == tokens[: n_before + 1]
    assert end not in got[1].tokens[: n_before + 2]
    assert len(got[1].tokens) > n_before + 2


@pytest.mark.parametrize("n_threads", [1, 3])
def test_any_number_of_threads_gives_the_same(served, kernel_cache_dir, n_threads):
    _, reference, requests, want = served
    config = SIZES | {"n_ubatch": 100}
    with (
        loaded(reference.path, kernel_cache_dir, n_threads, **config) as model,
        serving(model) as engine,
    ):
        assert_equal(f"{n_threads} threads", together(engine, requests), want)


def test_parked_and_resumed_is_the_same_as_undisturbed(served, kernel_cache_dir):
    _, reference, requests, want = served
    config = SIZES | {"n_ctx": 256}
    long = [
        request_of(reference.prompts[2][:n], max_tokens=90, sampling=replace(GREEDY, seed=n))
        for n in (20, 37, 50, 64, 100, 120)
    ]
    with loaded(reference.path, kernel_cache_dir, **config, n_checkpoints=3) as model:
        with serving(model) as engine:
            undisturbed = alone(engine, long)
        with serving(model) as engine:
            assert_equal("parked", together(engine, long), undisturbed)
            assert_equal("the crowd, in little memory", together(engine, requests), want)
            counters = engine.stats().counters
    if model.kv.n_blocks:
        assert counters.n_parked > 0, "memory was to run out"
        assert counters.n_recomputed_tokens > 0
