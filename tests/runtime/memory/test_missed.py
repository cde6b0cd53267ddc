"""Every reason why no more of a prompt was found, and at which token what is known ends."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.memory.missed import CacheMiss
from tests.runtime.engine.test_core import Bench, prompt_of

MEMORY = {
    "attention": {"n_blocks": 12},
    "hybrid": {"n_blocks": 12, "n_rows": 8},
}
A, B = prompt_of(90, 1).tolist(), prompt_of(90, 2).tolist()


def missed(bench, prompt, **options):
    """Serves a prompt; the reason and the place that its usage tells."""
    request, receiver = bench.add(prompt, max_tokens=1, ignore_eos=True, **options)
    bench.run()
    bench.check(request, receiver)
    usage = receiver.last[0].usage
    return usage.cache_miss, usage.cache_miss_at, usage.n_cached


@pytest.mark.parametrize("kind", MEMORY)
def test_cold_off_and_other_owners(kind):
    bench = Bench(kind, n_slots=2, **MEMORY[kind])
    assert missed(bench, A) == (CacheMiss.COLD, 0, 0)
    assert missed(bench, A) == (CacheMiss.NONE, 0, 80 if kind == "hybrid" else 89)
    assert missed(bench, A, cache_prompt=False) == (CacheMiss.OFF, 0, 0)
    assert missed(bench, A, cache_salt="/x") == (CacheMiss.OTHER_SALT, 0, 0)
    assert missed(bench, A, cache_salt="key/x") == (CacheMiss.OTHER_TENANT, 0, 0)
    assert missed(bench, A, cache_salt="key/y") == (CacheMiss.OTHER_SALT, 0, 0)
    assert missed(bench, B, cache_salt="key/y") == (CacheMiss.COLD, 0, 0)
    counted = bench.core.meter.counters.cache_misses
    assert counted == {"cold": 2, "off": 1, "other_salt": 2, "other_tenant": 1}


@pytest.mark.parametrize("cut", [3, 16, 37, 48, 70])
def test_where_attention_diverges(cut):
    bench = Bench("attention", n_slots=2, **MEMORY["attention"])
    missed(bench, A)
    assert missed(bench, A[:cut] + B[:20]) == (CacheMiss.DIVERGED, cut, cut)


def test_what_goes_on_is_new():
    bench = Bench("attention", n_slots=2, **MEMORY["attention"])
    missed(bench, A[:64])
    assert missed(bench, A) == (CacheMiss.NEW, 64, 64)


@pytest.mark.parametrize("cut", [37, 70])
def test_a_hybrid_without_a_state_there(cut):
    bench = Bench("hybrid", n_slots=2, **MEMORY["hybrid"])
    missed(bench, A)
    reason, at, n_cached = missed(bench, A[:cut] + B[:20])
    assert (reason, at, n_cached) == (CacheMiss.NO_STATE, cut, 0)
    # That one paid for a state at the fork; the third finds it.
    reason, at, n_cached = missed(bench, A[:cut] + prompt_of(20, 5).tolist())
    assert reason in (CacheMiss.DIVERGED, CacheMiss.NEW)
    assert (at, n_cached) == (cut, cut // 16 * 16)


def test_blocks_that_had_to_go():
    bench = Bench("attention", n_slots=1, **MEMORY["attention"])
    missed(bench, A)
    missed(bench, B)
    missed(bench, prompt_of(90, 3))
    assert missed(bench, A) == (CacheMiss.EVICTED, 0, 0)


def test_a_state_that_had_to_go():
    bench = Bench("hybrid", n_slots=1, n_blocks=40, n_rows=4)
    missed(bench, A)
    for seed in range(3, 7):
        missed(bench, prompt_of(90, seed))
    reason, at, n_cached = missed(bench, A)
    assert reason is CacheMiss.STATE_EVICTED
    assert (at, n_cached) == (90, 0)
    assert bench.core.meter.counters.cache_misses["state_evicted"] == 1


def test_what_was_erased_is_not_called_evicted():
    bench = Bench("attention", n_slots=1, **MEMORY["attention"])
    missed(bench, A)
    bench.core.memory.pools.forget("", np.array(A, np.int32))
    bench.core.memory.check_integrity()
    assert missed(bench, A)[0] in (CacheMiss.COLD, CacheMiss.NONE, CacheMiss.DIVERGED)
