"""Who comes in when: clients in turns, small ones past a large one, forks after their first; and
how many prompt tokens a step may have."""

from __future__ import annotations

import random

import pytest

from slotmux.runtime.engine.admission.fairness import Fairness
from slotmux.runtime.engine.pace import ALONE_S, LEAST_BESIDE, Pace
from slotmux.runtime.engine.request import FinishReason
from tests.runtime.engine.fake_model import EOG, oracle
from tests.runtime.engine.test_core import Bench


def prompt(n, k=0):
    return [(7 * i + k) % EOG for i in range(n)]


# -- the counts


def test_the_least_served_is_next_and_equals_take_turns():
    fairness = Fairness()
    for name in "abc":
        fairness.enter(name)
    assert fairness.interleave({"a": [10, 10], "b": [10], "c": [30, 1]}, 5) == list("abcac")
    fairness.charge("a", 100)
    assert fairness.interleave({"a": [10], "b": [40, 40, 40], "c": [30]}, 5) == list("bcbba")


def test_nobody_saves_up_turns_by_staying_away():
    fairness = Fairness()
    fairness.enter("busy")
    fairness.charge("busy", 10_000)
    fairness.enter("new")
    assert fairness.interleave({"busy": [10] * 4, "new": [10] * 4}, 4) == ["new", "busy"] * 2
    fairness.leave("new", has_begun=False)
    fairness.leave("busy", has_begun=False)
    assert len(fairness) == 0


def test_one_that_only_runs_lends_nobody_its_low_count():
    fairness = Fairness()
    fairness.enter("long")
    fairness.begin("long", 10)  # and runs on, with nothing waiting
    fairness.enter("busy")
    fairness.charge("busy", 10_000)
    for name in ("new", "long"):
        fairness.enter(name)
        turns = fairness.interleave({"busy": [10] * 9, name: [10] * 9}, 10)
        assert turns.count(name) == 5


def test_each_of_many_gets_the_same_tokens():
    """Against a naive server that always serves whoever has had least."""
    rng = random.Random(1)
    fairness, served = Fairness(), dict.fromkeys("abcd", 0)
    for name in served:
        fairness.enter(name)
    for _ in range(2000):
        items = {name: [rng.choice((1, 50, 400))] for name in served}
        (name,) = fairness.interleave(items, 1)
        assert served[name] == min(served.values())
        fairness.charge(name, items[name][0])
        served[name] += items[name][0]
    assert max(served.values()) - min(served.values()) <= 400


# -- admission


def order_of_ends(bench):
    """Requests in the order in which they end; runs everything."""
    ends = []

    def note(request, outputs, receive):
        receive(request, outputs)
        ends.extend(request.id for output in outputs if output.finish_reason is not None)

    for job in bench.core._jobs.values():
        receive = job.request.on_output
        job.request.on_output = lambda r, o, receive=receive: note(r, o, receive)
    bench.run()
    return ends


def test_one_client_with_many_requests_does_not_make_another_wait_for_all_of_them():
    bench = Bench(n_slots=2, n_blocks=64)
    many = [
        bench.add(prompt(20, i), max_tokens=10, ignore_eos=True, client="a")[0].id
        for i in range(20)
    ]
    one = bench.add(prompt(20, 3), max_tokens=10, ignore_eos=True, client="b")[0].id
    ends = order_of_ends(bench)
    assert ends.index(one) <= 4
    assert [i for i in ends if i != one] == many  # order within a client stays


def test_a_newcomer_does_not_starve_a_client_that_was_there():
    """Beside one whose only answer runs on and on."""
    bench = Bench(n_slots=2, n_ctx=1024, n_blocks=256, n_ubatch=64)
    bench.add(prompt(9), max_tokens=1000, ignore_eos=True, client="long")
    bench.step()
    options = {"max_tokens": 10, "ignore_eos": True, "cache_prompt": False}
    busy = {bench.add(prompt(20, i), client="busy", **options)[0].id for i in range(60)}
    while bench.core.admission.n_waiting > 30:
        bench.step()
    new = [bench.add(prompt(20, i), client="new", **options)[0].id for i in range(30)]
    ends = [i for i in order_of_ends(bench) if i in busy or i in new]
    assert 8 <= sum(i in busy for i in ends[:20]) <= 12


def test_what_is_generated_beyond_the_expected_is_charged_as_it_comes():
    bench = Bench(n_slots=2, n_ctx=1024, n_blocks=256, n_ubatch=64)
    fairness = bench.core.admission.fairness
    bench.add(prompt(9), max_tokens=900, ignore_eos=True, client="long")
    for _ in range(600):
        bench.step()
    bench.add(prompt(9), max_tokens=9, client="other")
    assert fairness._clients["long"].served >= 9 + 590
    bench.run()
    assert len(fairness) == 0


def test_priority_is_above_fairness():
    bench = Bench(n_slots=1, n_blocks=64)
    first = bench.add(prompt(9), max_tokens=3, client="a")[0].id
    bench.step()
    low = bench.add(prompt(9), max_tokens=3, client="b", priority=5)[0].id
    plain = bench.add(prompt(9), max_tokens=3, client="a")[0].id
    urgent = bench.add(prompt(9), max_tokens=3, client="a", priority=-1)[0].id
    assert order_of_ends(bench) == [first, urgent, plain, low]


def test_prompts_of_two_clients_get_equal_parts_of_a_step():
    bench = Bench(n_slots=4, n_ctx=512, n_blocks=200, n_ubatch=32)
    for i in range(3):
        bench.add(prompt(300, i), max_tokens=1, client="a")
    bench.add(prompt(300, 9), max_tokens=1, client="b")
    bench.step()
    planned = {"a": 0, "b": 0}
    for slot in bench.core.slots:
        planned[slot.choice.client] += slot.seq.n_computed
    assert planned == {"a": 16, "b": 16}


def test_small_requests_pass_one_that_does_not_fit_and_it_is_not_starved():
    bench = Bench(n_slots=4, n_ctx=128, n_blocks=12)
    running, _ = bench.add(prompt(100), max_tokens=28, ignore_eos=True)
    bench.step()
    large, large_got = bench.add(prompt(110, 1), max_tokens=9, ignore_eos=True)
    small = [bench.add(prompt(9, i), max_tokens=4, ignore_eos=True) for i in range(30)]
    bench.step()
    assert bench.core.admission.n_waiting == 29  # the large one, and all but two of the small ones
    for _ in range(24):
        bench.step()
    assert sum(0 in got.last for _, got in small) >= 6, "nobody passed"
    assert 0 not in large_got.last
    assert bench.core.meter.counters.n_passed >= 6
    ends = order_of_ends(bench)
    assert ends.index(large.id) < len(ends) - 10, "the large one was passed for ever"
    assert running.id in ends
    for request, got in [(large, large_got), *small]:
        assert got.tokens[0] == oracle(request, 128, bench.model, 0)


def test_those_that_passed_give_way_when_only_they_are_left():
    """They were expected to be shorter than they turn out to be."""
    bench = Bench(n_slots=3, n_ctx=1024, n_blocks=70, n_ubatch=64)
    bench.add(prompt(600), max_tokens=40, ignore_eos=True)
    for _ in range(12):
        bench.step()
    large, got = bench.add(prompt(700, 1), max_tokens=5, ignore_eos=True)
    long, long_got = bench.add(prompt(10, 2), max_tokens=900, ignore_eos=True)
    bench.run()
    for request, receiver in ((large, got), (long, long_got)):
        assert receiver.tokens[0] == oracle(request, 1024, bench.model, 0)
    assert bench.core.meter.counters.n_passed == 1


@pytest.mark.parametrize("n_middling", [4, 8, 9, 30])
def test_any_number_that_do_not_fit_may_stand_before_one_that_does(n_middling):
    bench = Bench(n_slots=4, n_ctx=1024, n_blocks=100, n_ubatch=256)
    bench.add(prompt(1000), max_tokens=20, ignore_eos=True, cache_prompt=False)
    for _ in range(6):
        bench.step()
    bench.add(prompt(700, 1), max_tokens=5)
    for i in range(n_middling):
        bench.add(prompt(620, 2 + i), max_tokens=5)
    _, got = bench.add(prompt(5, 9), max_tokens=3)
    for _ in range(5):
        bench.step()
    assert 0 in got.last
    assert bench.core.meter.counters.n_passed == 1


@pytest.mark.parametrize("is_placed", [False, True])
def test_nobody_is_parked_for_one_that_came_later(is_placed):
    """Whom it passed has gone: away, or into a slot."""
    bench = Bench(n_slots=4, n_ctx=1024, n_blocks=70, n_ubatch=64)
    bench.add(prompt(600), max_tokens=40, ignore_eos=True)
    for _ in range(12):
        bench.step()
    large, large_got = bench.add(prompt(700, 1), max_tokens=5, ignore_eos=True)
    _, long_got = bench.add(prompt(10, 2), max_tokens=900, ignore_eos=True)
    for _ in range(3):
        bench.step()
    assert bench.core.meter.counters.n_passed == 1
    if not is_placed:
        bench.core.abort(large.id, 0.0)
        bench.core.emit()
    while 0 not in large_got.last or len(long_got.tokens[0]) < 200:
        bench.step()
    n_parked = bench.core.meter.counters.n_parked
    bench.add(prompt(1000, 5), max_tokens=20, ignore_eos=True)
    _, tiny_got = bench.add(prompt(3, 4), max_tokens=2, ignore_eos=True)
    for _ in range(30):
        bench.step()
    assert 0 in tiny_got.last
    assert bench.core.meter.counters.n_parked == n_parked
    assert 0 not in long_got.last


def test_a_wanted_slot_is_waited_for_by_all_choices_of_a_request():
    bench = Bench(n_slots=4, n_blocks=64)
    bench.add(prompt(9), max_tokens=30, ignore_eos=True, slot_id=0)
    bench.step()
    request, got = bench.add(prompt(20, 1), n=2, max_tokens=5, ignore_eos=True, slot_id=0)
    for _ in range(10):
        bench.step()
    assert [slot.choice is None for slot in bench.core.slots] == [False, True, True, True]
    bench.run()
    for index in range(2):
        assert got.tokens[index] == oracle(request, 128, bench.model, index)
    assert bench.core.meter.counters.n_prompt_tokens == 9 + 20  # the prompt was computed once


def test_the_oldest_is_never_parked_and_of_the_rest_one_of_who_holds_most():
    bench = Bench(n_slots=4, n_ctx=128, n_blocks=18, n_ubatch=64)
    parked = []
    park = bench.core._park
    bench.core.scheduler._park = lambda slot: (parked.append(slot.choice.client), park(slot))
    for client, n in (("a", 60), ("b", 70), ("b", 60), ("c", 30)):
        bench.add(prompt(n), max_tokens=60, ignore_eos=True, client=client, cache_prompt=False)
    bench.run()
    assert parked
    assert parked[0] == "b"


def test_a_request_can_be_cut_with_what_it_has():
    bench = Bench(n_slots=1, n_blocks=64)
    request, got = bench.add(prompt(9), max_tokens=50, ignore_eos=True)
    waiting, nothing = bench.add(prompt(9), max_tokens=50)
    for _ in range(6):
        bench.step()
    bench.core.cut(request.id, 0.0)
    bench.core.cut(waiting.id, 0.0)
    bench.core.cut(12345, 0.0)
    bench.core.emit()
    assert got.last[0].finish_reason is FinishReason.LENGTH
    assert got.tokens[0] == oracle(request, 128, bench.model, 0)[: len(got.tokens[0])]
    assert len(got.tokens[0]) >= 4
    assert nothing.last[0].finish_reason is FinishReason.LENGTH
    assert not bench.core.has_work
    bench.core.memory.check_integrity()


# -- the pace


def test_prompt_tokens_beside_others_follow_what_steps_cost():
    pace = Pace(0.05)
    assert pace.most_beside() == -1  # nothing is known
    for _ in range(20):
        pace.observe(0, True, 0.005)
        pace.observe(64, True, 0.005 + 64 * 0.001)
    assert pace.most_beside() == (45 // 8) * 8
    assert pace.most_alone() == int(ALONE_S / pace.token_s) // 8 * 8
    for _ in range(40):  # the prompt gets deep
        pace.observe(40, True, 0.005 + 40 * 0.004)
    assert pace.most_beside() == LEAST_BESIDE
    for _ in range(40):  # a large model: four plain steps are more than the bound
        pace.observe(0, True, 0.1)
        pace.observe(8, True, 0.1 + 8 * 0.01)
    assert pace.most_beside() == pytest.approx(24, abs=8)


def test_one_slow_step_moves_the_pace_little():
    pace = Pace(0.05)
    for _ in range(20):
        pace.observe(0, True, 0.005)
        pace.observe(64, True, 0.069)
    before = pace.most_beside()
    pace.observe(64, True, 60.0)
    assert pace.most_beside() >= before // 2


def test_without_a_bound_there_is_none():
    pace = Pace(0.0)
    pace.observe(64, True, 10.0)
    assert pace.most_beside() == pace.most_alone() == -1


def test_the_scheduler_cuts_prompts_to_the_pace():
    bench = Bench(n_slots=2, n_ctx=512, n_blocks=64, n_ubatch=64, max_step_s=0.05)
    bench.add(prompt(9), max_tokens=200, ignore_eos=True)
    for _ in range(3):
        bench.step()
    pace = bench.core.scheduler.pace
    pace.plain_s, pace.token_s = 0.002, 0.002
    bench.add(prompt(300, 1), max_tokens=4)
    bench.step()
    assert bench.core.slots[1].seq.n_computed == 24
