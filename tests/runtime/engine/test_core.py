"""The engine's steps without its thread: every output equals the oracle's, whatever the crowd."""

import time

import numpy as np
import pytest

from slotmux.runtime.engine.admission.admission import check_request
from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import (
    FinishReason,
    InvalidRequestError,
    Request,
    SamplingParams,
)
from slotmux.runtime.engine.scheduler import Scheduler
from slotmux.runtime.memory.pools import Pools
from tests.runtime.engine.fake_model import (
    EOG,
    GREEDY,
    N_VOCAB,
    POISON,
    FakeDetokenizer,
    FakeModel,
    Receiver,
    ScriptedDrafter,
    oracle,
    text_of,
)

KINDS = {
    "attention": {"n_blocks": 64, "n_rows": 0},
    "hybrid": {"n_blocks": 64, "n_rows": 10},
    "recurrent": {"n_blocks": 0, "n_rows": 10},
}


class Bench:
    """A core on a fake model, driven step by step."""

    def __init__(self, kind="attention", n_slots=4, n_ctx=128, n_ubatch=32, **options):
        sizes = {**KINDS[kind]}
        for name in ("n_blocks", "n_rows", "n_ready", "n_segment", "block_bytes"):
            if name in options:
                sizes[name] = options.pop(name)
        store = options.pop("store", None)
        is_right, costs = options.pop("is_right", None), options.pop("costs", None)
        events = options.pop("events", None)
        self.config = EngineConfig(n_slots, n_ctx, poison_freed=True, **options)
        n_outputs = n_slots * (1 + self.config.spec.n_max)
        self.model = FakeModel(n_slots, n_ctx, n_ubatch=n_ubatch, n_outputs=n_outputs, **sizes)
        if is_right is not None:
            self.model.drafter = ScriptedDrafter(self.model, is_right)
        self.core = Core(
            self.model,
            self.config,
            frozenset({EOG}),
            FakeDetokenizer,
            costs,
            events=events,
            store=store,
        )
        self.n_ids = 0

    def add(self, prompt, **options):
        receiver = Receiver()
        request = Request(
            prompt=[int(t) for t in prompt],
            sampling=options.pop("sampling", GREEDY),
            on_output=receiver,
            **options,
        )
        self.n_ids += 1
        request.id = self.n_ids
        checked = check_request(request, self.config.n_slots, self.core.memory.n_ctx, N_VOCAB)
        self.core.add(request, checked, time.monotonic())
        return request, receiver

    def step(self):
        self.core.step(time.monotonic())
        self.core.emit()  # else while the next step computes
        self.core.memory.check_integrity()

    def run(self, limit=3000):
        while self.core.has_work:
            self.step()
            limit -= 1
            assert limit, "no end in sight"
        assert self.core.memory.pools.blocks.refs.count(0) == self.model.kv.n_blocks
        assert not any(slot.choice for slot in self.core.slots)

    def check_pages(self):
        """Blocks and rows without memory hold nothing, and the others fit the budget."""
        pools = self.core.memory.pools
        if pools.budget.limit is None:
            return
        kv, rows = self.model.kv, self.model.rows
        written = [bool((kv.tokens[b] != POISON).any()) for b in range(kv.n_blocks)]
        segments = {b // kv.n_segment for b, is_written in enumerate(written) if is_written}
        n_rows = sum(state != POISON for state in rows.state)
        spent = len(segments) * kv.n_segment * kv.block_bytes + pools.tree.n_bytes
        assert spent + n_rows * rows.row_bytes <= pools.budget.limit
        assert pools.n_available >= 0

    def check(self, request, receiver):
        for index in range(request.n):
            expected = oracle(request, self.core.memory.n_ctx, self.model, index)
            assert receiver.tokens[index] == expected
            last = receiver.last[index]
            ended = expected[-1] == EOG or expected[-1] in request.stop_token_ids
            assert last.finish_reason == (FinishReason.STOP if ended else FinishReason.LENGTH)
            assert last.usage.n_generated == len(expected)


def prompt_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, EOG, n)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ubatch", [4, 7, 32])
def test_many_requests_on_few_slots_equal_the_oracle(kind, n_ubatch):
    bench = Bench(kind, n_ubatch=n_ubatch)
    jobs = [
        bench.add(prompt_of(3 + 11 * i % 70, i), max_tokens=5 + i * 7 % 40, ignore_eos=i % 3 == 0)
        for i in range(14)
    ]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)


def test_more_slots_than_ubatch_tokens_take_turns():
    bench = Bench(n_ubatch=2, n_slots=4)
    bench.model.ubatch.max_outputs = 4
    jobs = [bench.add(prompt_of(9, i), max_tokens=6) for i in range(4)]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_choices_fork_after_the_prompt(kind):
    bench = Bench(kind)
    request, receiver = bench.add(
        prompt_of(21), n=4, sampling=SamplingParams(seed=5), max_tokens=30
    )
    bench.run()
    bench.check(request, receiver)
    assert bench.model.n_tokens_computed <= 21 + 4 * 30
    assert len({tuple(t) for t in receiver.tokens.values()}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_more_choices_than_slots_are_taken_in_turn(kind):
    bench = Bench(kind)
    other = bench.add(prompt_of(30, 1), max_tokens=25, ignore_eos=True)
    request, receiver = bench.add(
        prompt_of(40), n=11, sampling=SamplingParams(seed=9), max_tokens=20, ignore_eos=True
    )
    bench.run()
    bench.check(*other)
    bench.check(request, receiver)
    assert bench.model.n_tokens_computed < 55 + 11 * (20 + 8 + 16), "the prompt was computed again"


@pytest.mark.parametrize("kind", KINDS)
def test_choices_beyond_the_free_slots_come_in_later(kind):
    bench = Bench(kind)
    other = bench.add(prompt_of(30, 1), max_tokens=25, ignore_eos=True)
    more = bench.add(prompt_of(31, 2), max_tokens=60, ignore_eos=True)
    request, receiver = bench.add(
        prompt_of(40), n=4, sampling=SamplingParams(seed=9), max_tokens=50, ignore_eos=True
    )
    bench.run()
    for job in (other, more, (request, receiver)):
        bench.check(*job)
    assert receiver.last[3].usage.n_cached >= 31  # the prompt was not computed again


def test_a_long_prompt_does_not_stall_others():
    bench = Bench(n_ctx=512, n_blocks=128, n_ubatch=16)
    _, quick = bench.add(prompt_of(4, 1), max_tokens=40, ignore_eos=True)
    bench.step()
    _, long = bench.add(prompt_of(400, 2), max_tokens=2)
    for i in range(2, 25):
        bench.step()
        assert len(quick.tokens[0]) == i
    assert not long.tokens
    _, late = bench.add(prompt_of(20, 3), max_tokens=2, ignore_eos=True)
    for _ in range(4):
        bench.step()
    assert late.tokens, "the second prompt has no fair share"
    bench.run()


def test_prompt_tokens_beside_generation_are_bounded():
    bench = Bench(n_ctx=256, n_ubatch=32, n_prompt_beside=8)
    bench.add(prompt_of(4, 1), max_tokens=60, ignore_eos=True)
    bench.step()
    bench.add(prompt_of(100, 2), max_tokens=2)
    bench.model.max_run = 0
    for _ in range(5):
        bench.step()
    assert bench.model.max_run == 8
    bench.run()


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_one_victim_is_parked_and_resumes_with_the_same_output(kind):
    bench = Bench(kind, n_blocks=12, n_ctx=128)
    jobs = [bench.add(prompt_of(20, i), max_tokens=80, ignore_eos=True) for i in range(4)]
    while bench.core.has_work:
        n_before = bench.model.n_forwards
        bench.step()
        assert bench.model.n_forwards == n_before + 1, "a step computed nothing"
    assert bench.core.meter.counters.n_parked > 0
    for request, receiver in jobs:
        bench.check(request, receiver)


def test_the_youngest_is_the_victim():
    bench = Bench(n_blocks=8, n_ctx=128)
    _, first = bench.add(prompt_of(20, 0), max_tokens=100, ignore_eos=True)
    _, second = bench.add(prompt_of(20, 1), max_tokens=100, ignore_eos=True)
    while not first.last:
        bench.step()
    assert first.last[0].usage.n_generated == 100
    assert not second.last
    assert len(second.tokens[0]) < 100
    bench.run()
    assert len(second.tokens[0]) == 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_is_reused_also_from_a_busy_slot(kind):
    bench = Bench(kind)
    prompt = prompt_of(60)
    _, busy = bench.add(prompt, max_tokens=60, ignore_eos=True)
    for _ in range(8):
        bench.step()
    again, receiver = bench.add(prompt, max_tokens=10)
    branch, other = bench.add([*prompt[:50], 1, 2, 3], max_tokens=10)
    bench.run()
    bench.check(again, receiver)
    bench.check(branch, other)
    assert receiver.last[0].usage.n_cached >= 48
    if kind == "attention":
        assert receiver.last[0].usage.n_cached == 59
        assert other.last[0].usage.n_cached == 50
    assert len(busy.tokens[0]) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_chat_of_several_turns_reuses_all_that_came_before(kind):
    bench = Bench(kind, n_ctx=512, n_blocks=KINDS[kind]["n_blocks"])
    tokens = prompt_of(40).tolist()
    n_before = 0
    for turn in range(4):
        request, receiver = bench.add(tokens, max_tokens=35, ignore_eos=True)
        bench.run()
        bench.check(request, receiver)
        if turn:
            assert receiver.last[0].usage.n_cached == n_before - 1
        n_before = len(tokens) + 35
        tokens = tokens + receiver.tokens[0] + [turn, 5, 6, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_salts_share_nothing(kind):
    bench = Bench(kind)
    prompt = prompt_of(60)
    for salt, cache in [("a", True), ("b", True), ("a", False)]:
        request, receiver = bench.add(prompt, max_tokens=4, cache_salt=salt, cache_prompt=cache)
        bench.run()
        bench.check(request, receiver)
        assert receiver.last[0].usage.n_cached == 0
    _, receiver = bench.add(prompt, max_tokens=4, cache_salt="b")
    bench.run()
    assert receiver.last[0].usage.n_cached > 0


def test_message_boundaries_become_checkpoints():
    bench = Bench("hybrid", checkpoint_spacing=16)
    prompt = prompt_of(100)
    bench.add(prompt, max_tokens=2, boundaries=(40, 70))
    bench.run()
    for n_same, n_cached in [(60, 32), (80, 64), (99, 96)]:
        _, receiver = bench.add([*prompt[:n_same], 1, 2], max_tokens=1, cache_prompt=True)
        bench.run()
        assert receiver.last[0].usage.n_cached == n_cached


def test_nan_logits_end_that_request_only_and_leave_nothing_cached():
    bench = Bench("hybrid")
    bench.model.nan_token = 9
    good = bench.add([3] * 40, max_tokens=1)
    prompt = [5] * 40 + [9]
    _, bad = bench.add(prompt, max_tokens=20)
    bench.run()
    bench.check(*good)
    assert bad.last[0].finish_reason == FinishReason.ERROR
    assert bad.last[0].error_code == "server_error"
    bench.model.nan_token = -1
    request, receiver = bench.add(prompt, max_tokens=5)
    bench.run()
    bench.check(request, receiver)
    assert receiver.last[0].usage.n_cached == 0


def test_a_request_whose_sampling_is_refused_ends_alone():
    bench = Bench()
    good = bench.add(prompt_of(20), max_tokens=10)
    _, bad = bench.add(prompt_of(20, 1), sampling=SamplingParams(top_k=666))
    bench.run()
    bench.check(*good)
    assert bad.last[0].finish_reason == FinishReason.ERROR


def test_a_receiver_that_fails_ends_its_request_only():
    bench = Bench()
    good = bench.add(prompt_of(20), max_tokens=10)
    request, _ = bench.add(prompt_of(20, 1))

    def fail(request, outputs):
        raise RuntimeError("gone")

    request.on_output = fail
    bench.run()
    bench.check(*good)


def test_abort_frees_slots_before_the_next_step():
    bench = Bench()
    request, receiver = bench.add(prompt_of(20), n=3, sampling=SamplingParams(seed=1))
    waiting, waiting_receiver = bench.add(prompt_of(90, 1), n=4)
    bench.step()
    bench.step()
    for job in (request, waiting):
        bench.core.abort(job.id, time.monotonic())
        bench.core.abort(job.id, time.monotonic())
    bench.core.emit()
    bench.core.memory.check_integrity()
    assert {o.finish_reason for o in receiver.last.values()} == {FinishReason.ABORT}
    assert len(receiver.last) == 3
    assert len(waiting_receiver.last) == 4
    bench.run()


def test_waiting_too_long_is_an_error():
    bench = Bench(n_slots=1, queue_timeout_s=0.0001)
    bench.add(prompt_of(20), max_tokens=10, ignore_eos=True)
    bench.step()
    _, late = bench.add(prompt_of(20))
    time.sleep(0.001)
    bench.step()
    assert late.last[0].error_code == "queue_timeout"
    bench.run()


def test_a_wanted_slot_is_waited_for_while_others_pass():
    bench = Bench(n_slots=2)
    bench.add(prompt_of(8, 1), max_tokens=20, ignore_eos=True, slot_id=1)
    bench.step()
    assert bench.core.slots[1].choice is not None
    _, pinned = bench.add(prompt_of(8, 2), max_tokens=2, slot_id=1, ignore_eos=True)
    _, free = bench.add(prompt_of(8, 3), max_tokens=2, ignore_eos=True)
    for _ in range(3):
        bench.step()
    assert free.last
    assert not pinned.tokens
    bench.run()
    assert pinned.last


def test_min_tokens_stop_tokens_and_include_stop():
    bench = Bench()
    request, receiver = bench.add(prompt_of(10), max_tokens=60, min_tokens=30)
    stops = frozenset(range(0, 60, 2))
    early, early_receiver = bench.add(prompt_of(11), stop_token_ids=stops)
    kept, kept_receiver = bench.add(prompt_of(11), stop_token_ids=stops, include_stop=True)
    bench.run()
    for job in [(request, receiver), (early, early_receiver), (kept, kept_receiver)]:
        bench.check(*job)
    tokens = early_receiver.tokens[0]
    assert early_receiver.text[0] == text_of(tokens[:-1])
    assert kept_receiver.text[0] == text_of(tokens)


def test_logprobs_come_with_their_token():
    bench = Bench()
    _, receiver = bench.add(
        prompt_of(10), max_tokens=5, sampling=SamplingParams(temperature=0.0, n_logprobs=3)
    )
    bench.run()
    assert [lp.token_id for lp in receiver.logprobs[0]] == receiver.tokens[0]
    assert all(len(lp.top) == 3 and lp.top[0][0] == lp.token_id for lp in receiver.logprobs[0])


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": [1] * 128}),
        ("prompt", {"prompt": [64]}),
        ("prompt", {"prompt": [-1]}),
        ("n", {"n": 0}),
        ("max_tokens", {"max_tokens": -2}),
        ("min_tokens", {"min_tokens": 9, "max_tokens": 8}),
        ("slot_id", {"slot_id": 4}),
        ("stop", {"stop": ("a", "")}),
        ("top_logprobs", {"sampling": SamplingParams(n_logprobs=21)}),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(field, options):
    bench = Bench()
    with pytest.raises(InvalidRequestError) as info:
        bench.add(options.pop("prompt", [1, 2]), **options)
    assert info.value.field == field


def test_a_prompt_larger_than_the_pool_is_too_long():
    bench = Bench(n_blocks=4)
    with pytest.raises(InvalidRequestError) as info:
        bench.add([1] * 64)
    assert info.value.code == "context_length_exceeded"
    request, receiver = bench.add([1] * 63, ignore_eos=True)
    bench.run()
    bench.check(request, receiver)
    assert receiver.last[0].finish_reason == FinishReason.LENGTH


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("n_prompt", [49, 50, 62])
def test_forks_in_the_last_block_of_all(n, n_prompt):
    """The pool holds one context, its last block is shared: one choice writes, the others wait."""
    bench = Bench("attention", n_slots=n, n_ctx=64, n_blocks=4)
    request, receiver = bench.add([i % EOG for i in range(n_prompt)], n=n, max_tokens=12)
    bench.run()
    for index in range(n):
        assert receiver.tokens[index] == oracle(request, 64, bench.model, index)
    assert bench.core.meter.counters.n_parked > 0


def test_a_sequence_without_memory_fails_alone(monkeypatch):
    """Blocks that cannot be had, as a bug might cause, end one request and no other."""
    bench = Bench("attention", n_slots=2, n_ctx=64, n_blocks=4)
    _, long = bench.add(list(range(30)), max_tokens=30)
    bench.step()
    with monkeypatch.context() as patch:
        patch.setattr(Pools, "take_blocks", lambda self, n: None if n else [])
        bench.run()
    assert long.last[0].finish_reason is FinishReason.ERROR
    assert long.last[0].error_code == "no_memory"
    request, after = bench.add([1, 2, 3], max_tokens=9)
    bench.run()
    assert after.tokens[0] == oracle(request, 64, bench.model, 0)
    bench.core.memory.check_integrity()


def test_outputs_are_delivered_while_the_next_step_computes():
    """And at once where none follows, or where somebody waits to be admitted."""
    bench = Bench(n_slots=2)
    core = bench.core
    _, receiver = bench.add(prompt_of(20), max_tokens=6, ignore_eos=True)
    seen = []
    bench.model.before_forward = lambda: seen.append(len(receiver.tokens.get(0, [])))
    while core.has_work:
        core.step(time.monotonic())
    assert seen == [0, 0, 1, 2, 3, 4]
    assert len(receiver.tokens[0]) == 6
    assert receiver.last[0].finish_reason is FinishReason.LENGTH


def test_a_receiver_that_fails_during_a_step_is_ended_behind_it():
    """Its memory is not freed, and filled with poison, while the step computes with it."""
    bench = Bench(n_slots=2)
    core = bench.core
    request, _ = bench.add(prompt_of(20), max_tokens=50, ignore_eos=True)
    good = bench.add(prompt_of(30, 1), max_tokens=20, ignore_eos=True)
    while not core.slots[0].n_known > 20:  # its first token is on the way
        core.step(time.monotonic())

    def fail(*_):
        raise RuntimeError("gone")

    request.on_output = fail
    core.step(time.monotonic())
    assert [slot.choice.job.request for slot in core.slots if slot.choice] == [good[0]]
    core.memory.check_integrity()
    bench.run()
    bench.check(*good)


def test_a_steady_crowd_is_not_described_anew_each_step(monkeypatch):
    """Once all generate, the ubatch only moves on; whoever comes, goes or drafts fills it again."""
    n_fills = []
    fill = Scheduler._fill
    monkeypatch.setattr(Scheduler, "_fill", lambda self: (n_fills.append(1), fill(self)))
    bench = Bench(n_slots=3)
    jobs = [bench.add(prompt_of(8, i), max_tokens=30, ignore_eos=True) for i in range(2)]
    for _ in range(10):
        bench.step()
    assert len(n_fills) == 2  # the prompts, the first step of both
    jobs.append(bench.add(prompt_of(8, 2), max_tokens=5, ignore_eos=True))
    for _ in range(4):
        bench.step()
    assert len(n_fills) == 4
    bench.run()
    for job in jobs:
        bench.check(*job)


def test_a_sequence_that_fills_the_pool_fits_beside_the_index_of_many_salts():
    """Kept prefixes of many owners make the index larger than the budget thought: they go."""
    bench = Bench(n_slots=1, n_ctx=64, n_blocks=8, n_ready=4, n_segment=4, prefix_cache_bytes=0)
    for salt in "abcdefgh":
        bench.add(prompt_of(3, ord(salt)), max_tokens=1, cache_salt=salt)
        while bench.core.has_work:
            bench.step()
    assert bench.core.memory.pools.n_available >= 4
    _, receiver = bench.add(prompt_of(63), max_tokens=1)
    while bench.core.has_work:
        bench.step()
    assert receiver.last[0].finish_reason is FinishReason.LENGTH
