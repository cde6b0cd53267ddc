"""Work that is under way is shared: a prompt waits for the tokens that another slot computes."""

from __future__ import annotations

import pytest

from slotmux.runtime.engine.acceptor import ROLLING_TOKENS
from slotmux.runtime.ubatch import BLOCK_CELLS
from tests.runtime.engine.test_core import KINDS, Bench, prompt_of

STEM = prompt_of(90, 1)


def _jobs(bench, n, n_tail=9, **options):
    return [
        bench.add([*STEM, *prompt_of(n_tail, 50 + i)], max_tokens=6, **options) for i in range(n)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_common_beginning_is_computed_once(kind):
    bench = Bench(kind)
    jobs = _jobs(bench, 4)
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
    n_stem = len(STEM) // BLOCK_CELLS * BLOCK_CELLS
    n_cached = [receiver.last[0].usage.n_cached for _, receiver in jobs]
    assert n_cached[0] == 0
    assert all(n_stem <= n <= len(STEM) for n in n_cached[1:])  # cells of a block are copied too
    n_prompt = sum(len(request.prompt) for request, _ in jobs)
    assert bench.core.meter.counters.n_prompt_tokens == n_prompt - sum(n_cached)
    assert bench.core.meter.counters.n_prompt_tokens_cached == sum(n_cached)


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_while_the_beginning_is_computed_waits_for_the_rest(kind):
    bench = Bench(kind, n_ubatch=16)
    first = _jobs(bench, 1)
    for _ in range(3):
        bench.step()
    later = _jobs(bench, 2)
    bench.step()
    states = [slot.state for slot in bench.core.slots[:3]]
    assert states == ["prompt", "waiting", "waiting"]
    progress = later[0][0].progress
    assert progress.n_computed > 0  # the one ahead gets on, so nobody calls this one stuck
    bench.run()
    for request, receiver in first + later:
        bench.check(request, receiver)
    assert all(r.last[0].usage.n_cached >= 80 for _, r in later)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_steps", [1, 3, 5])
@pytest.mark.parametrize("how", ["abort", "park"])
def test_when_the_one_ahead_goes_another_goes_on_from_there(kind, n_steps, how):
    bench = Bench(kind, n_ubatch=16)
    jobs = _jobs(bench, 3)
    for _ in range(n_steps):
        bench.step()
    ahead = bench.core.slots[0]
    n_computed = ahead.seq.n_computed
    assert 0 < n_computed < len(STEM)
    if how == "abort":
        bench.core.abort(jobs[0][0].id, 0.0)
    else:
        bench.core.scheduler.remove(ahead)
        bench.core._park(ahead)
    bench.run()
    for request, receiver in jobs[how == "abort" :]:
        bench.check(request, receiver)
    # The beginning once, and what each that came to its end has for itself; what the one that went
    # had computed is not computed again.
    n_own = len(jobs[0][0].prompt) - 80
    n_ended = 2 if how == "abort" else 3
    assert bench.core.meter.counters.n_prompt_tokens <= 80 + n_ended * n_own + BLOCK_CELLS


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_waits_across_salts_or_without_the_cache(kind):
    bench = Bench(kind)
    one = bench.add(STEM, max_tokens=3, cache_salt="a")
    two = bench.add(STEM, max_tokens=3, cache_salt="b")
    three = bench.add(STEM, max_tokens=3, cache_salt="a", cache_prompt=False)
    bench.step()
    assert [slot.ahead for slot in bench.core.slots] == [None] * 4
    bench.run()
    for request, receiver in (one, two, three):
        bench.check(request, receiver)
        assert receiver.last[0].usage.n_cached == 0


@pytest.mark.parametrize("kind", KINDS)
def test_chains_of_different_lengths_all_end(kind):
    """Each has more in common with the next than with the one after: everybody waits, nobody for
    ever, and every answer is right."""
    bench = Bench(kind, n_ubatch=24, n_slots=6, n_blocks=64 if kind != "recurrent" else 0)
    jobs = []
    for i, n in enumerate((96, 80, 96, 64, 48, 96)):
        jobs.append(bench.add([*STEM[:n], *prompt_of(20, i)], max_tokens=5))
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
    assert bench.core.meter.counters.n_prompt_tokens_cached > 250


@pytest.mark.parametrize("kind", ["hybrid", "recurrent"])
def test_the_second_to_leave_a_path_pays_the_third_gains(kind):
    """A document with other questions, and no boundary that says where it ends."""
    bench = Bench(kind)
    n_cached = []
    for i in range(4):
        request, receiver = bench.add([*STEM, *prompt_of(14, 70 + i)], max_tokens=2)
        bench.run()
        bench.check(request, receiver)
        n_cached.append(receiver.last[0].usage.n_cached)
    assert n_cached[:2] == [0, 0]
    assert n_cached[2:] == [80, 80]


def test_a_parked_hybrid_computes_little_again():
    """Its last blocks go first; a state kept on the way stands before them."""
    bench = Bench("hybrid", n_ctx=400, n_blocks=40, n_slots=3, n_rows=24)
    jobs = [
        bench.add(prompt_of(30, i), max_tokens=n, ignore_eos=True)
        for i, n in enumerate((180, 300, 330))
    ]
    bench.run()
    for request, receiver in jobs:
        bench.check(request, receiver)
    counters = bench.core.meter.counters
    assert counters.n_parked
    assert counters.n_recomputed_tokens <= counters.n_parked * (ROLLING_TOKENS + 2 * BLOCK_CELLS)
