"""Speculation changes how many steps an answer takes, and nothing else: the engine on a fake model
whose drafts are right and wrong as told, memory poisoned, against the oracle."""

import itertools

import numpy as np
import pytest

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.request import FinishReason, SamplingParams, SpecParams
from tests.runtime.engine.fake_model import EOG, EagerCosts, text_of
from tests.runtime.engine.test_core import Bench, prompt_of

KINDS = ("attention", "hybrid", "recurrent")
PATTERNS = {
    "right": lambda slot, pos, ahead: True,
    "wrong": lambda slot, pos, ahead: False,
    "first right": lambda slot, pos, ahead: ahead == 0,
    "by turns": lambda slot, pos, ahead: (slot + pos) % 3 > 0,
}


def speculating(kind="hybrid", n_max=4, pattern="by turns", types=(MTP,), **options):
    return Bench(
        kind,
        spec=SpecConfig(types, n_max, **options.pop("bounds", {})),
        costs=options.pop("costs", EagerCosts()),
        is_right=PATTERNS.get(pattern, pattern),
        **options,
    )


@pytest.mark.parametrize("n_max", [1, 2, 4, 8])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", KINDS)
def test_output_is_that_without_drafts(kind, pattern, n_max):
    """Greedy and sampled, more requests than slots, stop tokens in the middle of a draft."""
    bench = speculating(kind, n_max, pattern, n_ubatch=48)
    jobs = [
        bench.add(
            prompt_of(3 + 5 * i, i),
            sampling=SamplingParams(temperature=float(i % 2), seed=i),
            max_tokens=11 + i,
            min_tokens=i % 4,
            stop_token_ids=frozenset({i, 40}) if i % 3 else frozenset(),
            ignore_eos=i % 5 == 0,
        )
        for i in range(9)
    ]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
        usage = receiver.last[0].usage
        assert 0 <= usage.n_draft_accepted <= usage.n_draft
    counters = bench.core.meter.counters
    assert counters.n_draft_tokens == sum(r.last[0].usage.n_draft for _, r in jobs) > 0
    assert counters.n_draft_tokens == sum(counters.drafted_at)
    assert counters.n_draft_accepted == sum(counters.accepted_at)
    assert counters.n_draft_tokens == sum(slot.n_drafts for slot in bench.core.slots)
    if pattern == "wrong":
        assert counters.n_draft_accepted == 0


def test_right_drafts_save_steps():
    n_steps = {}
    for pattern in ("right", "wrong"):
        bench = speculating("hybrid", 4, pattern)
        bench.add(prompt_of(5), max_tokens=50, ignore_eos=True)
        bench.run()
        n_steps[pattern] = bench.model.n_forwards
    assert n_steps["right"] <= 1 + 49 // 5 + 1
    assert n_steps["wrong"] == 50


def test_drafts_are_never_more_than_can_be_used():
    """Neither past max_tokens nor past the context, whose last cell is not to be passed."""
    bench = speculating("hybrid", 8, "right", n_ctx=64)
    a = bench.add(prompt_of(5), max_tokens=3, ignore_eos=True)
    b = bench.add(prompt_of(50), ignore_eos=True)
    bench.run()
    bench.check(*a)
    bench.check(*b)
    assert a[1].last[0].usage.n_draft == 1
    assert len(b[1].tokens[0]) == 14


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_memory_that_runs_out_takes_the_drafts_first(kind):
    """Two sequences fit just so: nobody is parked for another one's drafts."""
    bench = speculating(kind, 8, "right", n_slots=2, n_blocks=4, n_ctx=64)
    jobs = [bench.add(prompt_of(14, i), max_tokens=16, ignore_eos=True) for i in range(2)]
    bench.run()
    for job in jobs:
        bench.check(*job)
    assert bench.core.meter.counters.n_parked == 0


def test_parked_sequences_come_back_as_they_were():
    bench = speculating("hybrid", 5, "by turns", n_slots=3, n_blocks=9, n_rows=5, n_ctx=128)
    jobs = [bench.add(prompt_of(30, i), max_tokens=60, ignore_eos=True) for i in range(3)]
    bench.run()
    for job in jobs:
        bench.check(*job)
    assert bench.core.meter.counters.n_parked > 0


def test_stop_strings_cut_within_a_draft():
    plain = Bench("hybrid")
    _, receiver = plain.add(prompt_of(6, 3), max_tokens=40, ignore_eos=True)
    plain.run()
    tokens = receiver.tokens[0]
    stop = text_of(tokens[12:14])
    outcomes = []
    for bench in (Bench("hybrid"), speculating("hybrid", 6, "right")):
        _, receiver = bench.add(prompt_of(6, 3), max_tokens=40, ignore_eos=True, stop=(stop,))
        bench.run()
        last = receiver.last[0]
        outcomes.append(
            (receiver.text[0], receiver.tokens[0], last.finish_reason, last.stop_string)
        )
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][2] == FinishReason.STOP


def test_logprobs_are_those_of_the_step_that_verified():
    sampling = SamplingParams(temperature=0.0, n_logprobs=3)
    outcomes = []
    for bench in (Bench("hybrid"), speculating("hybrid", 4, "by turns")):
        _, receiver = bench.add(prompt_of(8), sampling=sampling, max_tokens=30, ignore_eos=True)
        bench.run()
        outcomes.append(receiver.logprobs[0])
    assert outcomes[0] == outcomes[1]


def test_an_abort_after_verification_leaves_nothing():
    bench = speculating("hybrid", 4, "by turns")
    jobs = [bench.add(prompt_of(9, i), ignore_eos=True) for i in range(4)]
    for _ in range(5):
        bench.step()
    bench.core.abort(jobs[1][0].id, 0.0)
    bench.core.abort(jobs[2][0].id, 0.0)
    bench.core.emit()
    bench.core.memory.check_integrity()
    bench.run()
    for job in (jobs[0], jobs[3]):
        bench.check(*job)


def test_a_finished_chat_is_continued_from_its_drafted_state():
    """Drafts that were accepted last are part of what the next turn reuses."""
    bench = speculating("hybrid", 4, "right", n_rows=12, checkpoint_spacing=1)
    prompt = prompt_of(20).tolist()
    request, receiver = bench.add(prompt, max_tokens=21, ignore_eos=True)
    bench.run()
    bench.check(request, receiver)
    prompt += [*receiver.tokens[0], 3]
    request, receiver = bench.add(prompt, max_tokens=9, ignore_eos=True)
    bench.run()
    bench.check(request, receiver)
    assert receiver.last[0].usage.n_cached == 40


def test_choices_of_one_request_draft_each_for_itself():
    bench = speculating("hybrid", 4, "by turns", n_rows=12)
    request, receiver = bench.add(
        prompt_of(12), n=3, sampling=SamplingParams(seed=5), max_tokens=25, ignore_eos=True
    )
    bench.run()
    bench.check(request, receiver)


def test_prompts_get_their_share_beside_drafts():
    bench = speculating("hybrid", 8, "right", n_ubatch=16)
    a = bench.add(prompt_of(4), max_tokens=60, ignore_eos=True)
    bench.step()
    b = bench.add(prompt_of(100, 1), max_tokens=20, ignore_eos=True)
    n_steps = 0
    while not b[1].tokens:
        bench.step()
        n_steps += 1
    assert n_steps <= 14
    bench.run()
    bench.check(*a)
    bench.check(*b)


def test_a_request_sets_its_own_bounds():
    bench = speculating("hybrid", 4, "right")
    wishes = [SpecParams(n_max=0), SpecParams(n_max=1), SpecParams(n_min=4), SpecParams()]
    jobs = [
        bench.add(prompt_of(7, i), max_tokens=20, ignore_eos=True, speculative=wish)
        for i, wish in enumerate(wishes)
    ]
    bench.run()
    for job in jobs:
        bench.check(*job)
    n = [receiver.last[0].usage.n_draft for _, receiver in jobs]
    assert n[0] == 0
    assert 0 < n[1] <= 10
    assert n[2] % 4 == 0
    assert n[3] > n[1]


def test_unlikely_guesses_are_not_verified():
    bench = speculating("hybrid", 4, "right", bounds={"p_min": 0.5})
    run = bench.model.drafter.run

    def unsure(wanted, **options):
        tokens, logprobs = run(wanted, **options)
        logprobs[2:] = np.log(0.4)
        return tokens, logprobs

    bench.model.drafter.run = unsure
    job = bench.add(prompt_of(7), max_tokens=31, ignore_eos=True)
    bench.run()
    bench.check(*job)
    drafted = bench.core.meter.counters.drafted_at
    assert drafted[1] > 0
    assert drafted[2:] == [0, 0]


def test_guesses_that_cannot_be_drawn_end_the_draft():
    bench = speculating("hybrid", 3, "right")
    run = bench.model.drafter.run

    def broken(wanted, **options):
        tokens, logprobs = run(wanted, **options)
        tokens[1:] = -1
        return tokens, logprobs

    bench.model.drafter.run = broken
    job = bench.add(prompt_of(7), max_tokens=31, ignore_eos=True)
    bench.run()
    bench.check(*job)
    assert bench.core.meter.counters.drafted_at[1:] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_ngrams_draft_what_was_said_before(kind):
    """No block is needed, and the model's own loop is found."""
    bench = Bench(kind, spec=SpecConfig((NGRAM,), 4), costs=EagerCosts())
    prompt = [1, 2, 3, 4, 5, 6] * 4
    job = bench.add(prompt, max_tokens=40, ignore_eos=True)
    other = bench.add(prompt_of(9), max_tokens=40, sampling=SamplingParams(seed=1), ignore_eos=True)
    bench.run()
    bench.check(*job)
    bench.check(*other)
    assert job[1].last[0].usage.n_draft > 0


def test_ngrams_and_guesses_together():
    """Where the text repeats itself its past is tried; elsewhere the block guesses."""
    bench = speculating("hybrid", 4, "right", types=(MTP, NGRAM))
    jobs = [bench.add([1, 2, 3, 4] * 6, max_tokens=40, ignore_eos=True),
            bench.add(prompt_of(9), max_tokens=40, ignore_eos=True)]  # fmt: skip
    bench.run()
    for job in jobs:
        bench.check(*job)
    assert bench.model.drafter.n_runs > 0


def test_a_model_without_the_block_is_refused():
    with pytest.raises(ValueError, match="multi-token"):
        Bench("hybrid", spec=SpecConfig((MTP,), 4))


def test_logits_that_are_no_numbers_end_the_request_within_a_draft():
    bench = speculating("hybrid", 4, "right")
    plain = Bench("hybrid")
    _, receiver = plain.add(prompt_of(6), max_tokens=30, ignore_eos=True)
    plain.run()
    tokens = receiver.tokens[0]
    bench.model.nan_token = next(t for i, t in enumerate(tokens) if i >= 8 and tokens.index(t) == i)
    _, receiver = bench.add(prompt_of(6), max_tokens=30, ignore_eos=True)
    bench.run()
    assert receiver.last[0].finish_reason == FinishReason.ERROR
    assert receiver.tokens[0] == tokens[: tokens.index(bench.model.nan_token) + 1]
    assert bench.core.memory.n_checkpoints == bench.core.memory.n_blocks_cached == 0
    bench.core.memory.drop_cache()
    bench.core.memory.check_integrity()


def test_end_of_generation_inside_a_draft():
    """An answer whose end token was drafted ends there; the tokens behind it are not kept."""
    for seed in itertools.count():
        plain = Bench("hybrid")
        _, receiver = plain.add(prompt_of(6, seed), max_tokens=40)
        plain.run()
        if receiver.tokens[0][-1] == EOG and len(receiver.tokens[0]) > 4:
            break
    bench = speculating("hybrid", 8, "right")
    job = bench.add(prompt_of(6, seed), max_tokens=40)
    bench.run()
    bench.check(*job)
