"""A session's next request goes to the slot of its last one, if that is free; nobody waits."""

from __future__ import annotations

import random

from slotmux.runtime.engine.admission.sessions import MAX_SESSIONS, Sessions
from tests.runtime.engine.test_core import Bench, prompt_of


def end(bench, request):
    while any(slot.choice and slot.choice.job.request is request for slot in bench.core.slots):
        bench.step()


def begin(bench, session="", k=0, **options):
    request, receiver = bench.add(
        prompt_of(8, k), max_tokens=4, ignore_eos=True, session=session, **options
    )
    while request.progress.slot_id < 0:
        bench.step()
    return request, receiver


def test_a_session_comes_back_to_its_slot():
    bench = Bench()
    first = [begin(bench, name, k)[0] for k, name in enumerate("abc")]
    assert len({request.progress.slot_id for request in first}) == 3
    for request in first:
        end(bench, request)
    again = {name: begin(bench, name, 9)[0].progress.slot_id for name in "cab"}
    assert [again[name] for name in "abc"] == [request.progress.slot_id for request in first]
    bench.run()


def test_strangers_take_the_slots_of_nobody_first():
    bench = Bench()
    end(bench, begin(bench, "a")[0])
    strangers = [begin(bench, k=k)[0].progress.slot_id for k in range(4)]
    assert strangers == [1, 2, 3, 0]
    bench.run()


def test_a_busy_slot_is_not_waited_for():
    bench = Bench()
    first, _ = begin(bench, "a")
    second, got = begin(bench, "a", 1)
    assert second.progress.slot_id != first.progress.slot_id
    bench.run()
    bench.check(second, got)


def test_a_wanted_slot_is_above_the_session():
    bench = Bench()
    end(bench, begin(bench, "a")[0])
    assert begin(bench, "a", 1, slot_id=2)[0].progress.slot_id == 2
    bench.run()


def test_answers_do_not_depend_on_sessions():
    bench = Bench(n_blocks=20)
    rng = random.Random(3)
    asked = [
        bench.add(prompt_of(8 + k, k), max_tokens=9, n=1 + k % 2, session=rng.choice("abc "))
        for k in range(30)
    ]
    bench.run()
    for request, got in asked:
        bench.check(request, got)


def test_what_is_remembered_is_bounded():
    bench, sessions = Bench(), Sessions()
    for k in range(MAX_SESSIONS + 10):
        sessions.note(f"s{k}", bench.core.slots[k % 4])
    assert len(sessions) == MAX_SESSIONS
    last = f"s{MAX_SESSIONS + 9}"
    assert sessions.pick(last, bench.core.slots).id == (MAX_SESSIONS + 9) % 4
    assert sessions.pick("s1", bench.core.slots).id == 0  # forgotten: the first that is free
