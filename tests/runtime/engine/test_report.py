"""What a snapshot tells of a slot: its choice, whose it is, and since when it runs."""

import time

import pytest

from slotmux.runtime.engine.config import SpecConfig
from slotmux.runtime.engine.report import engine_stats
from tests.runtime.engine.test_core import KINDS, Bench


def slots_of(bench):
    return engine_stats(bench.core, n_inbox=0, heartbeat_age_s=0.0, is_draining=False).slots


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_tells_its_choice_and_an_idle_one_nothing(kind):
    bench = Bench(kind)
    options = {"client": "c", "session": "s", "priority": 2, "max_tokens": 8, "ignore_eos": True}
    bench.add(range(5), n=2, **options)
    begin = time.monotonic()
    for _ in range(4):
        bench.step()
    slots = slots_of(bench)
    busy = [slot for slot in slots if slot.state != "idle"]
    assert [slot.index for slot in busy] == [0, 1]
    for slot in busy:
        assert (slot.client, slot.priority, slot.n_limit) == ("c", 2, 13)
        assert slot.has_row == (kind != "attention")
        assert 0 < slot.generating_s <= slot.running_s <= time.monotonic() - begin + 1
    assert [slot.session for slot in busy] == ["s", ""], "the other choices take what is free"
    for slot in slots:
        if slot.state == "idle":
            assert (slot.client, slot.session, slot.n_limit, slot.running_s) == ("", "", 0, 0.0)
    bench.run()
    assert {slot.state for slot in slots_of(bench)} == {"idle"}


def test_before_its_first_token_a_choice_generates_for_no_time():
    bench = Bench(n_ubatch=8)
    bench.add(range(60), max_tokens=4)
    bench.step()
    (slot,) = [slot for slot in slots_of(bench) if slot.state != "idle"]
    assert (slot.state, slot.generating_s) == ("prompt", 0.0)
    assert slot.running_s > 0


def test_drafts_of_the_choice_are_told_apart_from_those_of_the_slot():
    spec = SpecConfig(types=("draft-mtp",), n_max=3)
    bench = Bench(spec=spec, is_right=lambda *_: True)
    bench.add(range(4), max_tokens=30, ignore_eos=True)
    bench.run()
    before = sum(slot.n_draft for slot in slots_of(bench))
    assert before > 0
    bench.add(range(4), max_tokens=60, ignore_eos=True)
    for _ in range(6):
        bench.step()
    (slot,) = [slot for slot in slots_of(bench) if slot.state != "idle"]
    assert slot.n_choice_draft >= slot.n_choice_draft_accepted > 0
    assert sum(s.n_draft for s in slots_of(bench)) == before + slot.n_choice_draft


def test_a_choice_that_is_being_put_into_its_slot_runs_for_no_time():
    bench = Bench()
    bench.add(range(60), max_tokens=4)
    bench.step()
    (slot,) = [slot for slot in bench.core.slots if slot.choice is not None]
    slot.choice.t_admitted = 0.0  # as another thread may find it
    assert slots_of(bench)[slot.id].running_s == 0.0
