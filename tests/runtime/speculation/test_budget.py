"""How many drafts are worth it: acceptance, costs, the choice between them, and n-gram lookups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from slotmux.runtime.engine.admission.admission import check_speculative
from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.request import InvalidRequestError, SpecParams
from slotmux.runtime.speculation.acceptance import Acceptance
from slotmux.runtime.speculation.budget import choose
from slotmux.runtime.speculation.costs import Costs
from slotmux.runtime.speculation.ngram import MIN_MATCH, lookup
from slotmux.runtime.speculation.trials import Trial
from tests.runtime.engine.test_core import prompt_of
from tests.runtime.speculation.test_on_fakes import speculating


def costs_of(row_share: float, pass_share: float, max_rows: int = 64) -> Costs:
    """A step of n rows costs 1 + row_share * (n - 1), a pass pass_share."""
    curve = {1: 1.0, max_rows: 1.0 + row_share * (max_rows - 1)}
    return Costs({1: curve, 8: curve}, {(n, False): pass_share for n in (1, 8)})


def rate(chains, counts, n_seqs, costs, n_paying):
    gained = sum(sum(chain[:n]) for chain, n in zip(chains, counts, strict=True))
    seconds = costs.step(n_seqs, n_seqs + sum(counts))
    depth = max((n for n, pays in zip(counts, n_paying, strict=True) if pays), default=0)
    return (n_seqs + gained) / (seconds + depth * costs.draft(sum(n_paying), False))


@pytest.mark.parametrize("row_share", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("pass_share", [0.02, 0.3])
def test_the_choice_is_near_the_best_of_all(row_share, pass_share):
    """Against every combination, for sequences of unlike acceptance."""
    rng = np.random.default_rng(int(100 * (row_share + pass_share)))
    costs = costs_of(row_share, pass_share)
    for _ in range(20):
        chains = [np.cumprod(rng.uniform(0.1, 1.0, 3)).tolist() for _ in range(3)]
        pays = [bool(p) for p in rng.integers(0, 2, 3)]
        free = [not p for p in pays]
        got = choose(chains, free, 3, costs, is_short=False, max_rows=64)
        best = max(
            rate(chains, counts, 3, costs, pays) for counts in itertools.product(range(4), repeat=3)
        )
        plain = rate(chains, [0, 0, 0], 3, costs, pays)
        assert rate(chains, got, 3, costs, pays) >= max(plain, 0.96 * best)


def test_nothing_is_drafted_where_it_does_not_pay():
    eager = [[0.9, 0.8, 0.7]]
    assert choose(eager, [False], 1, costs_of(0.05, 0.1), is_short=False, max_rows=64) == [3]
    assert choose(eager, [False], 1, costs_of(1.0, 0.3), is_short=False, max_rows=64) == [0]
    hopeless = [[0.05, 0.0, 0.0]] * 8
    costs = costs_of(0.05, 0.1)
    assert choose(hopeless, [False] * 8, 8, costs, is_short=False, max_rows=64) == [0] * 8


def test_rows_are_bounded():
    chains = [[0.99, 0.98, 0.97]] * 4
    costs = costs_of(0.001, 0.001)
    counts = choose(chains, [False] * 4, 4, costs, is_short=False, max_rows=9)
    assert sum(counts) == 5


def test_acceptance_follows_what_happens():
    acceptance = Acceptance(3)
    for _ in range(200):
        acceptance.observe(3, 2)
    first, second, third = acceptance.rates
    assert first > 0.99 and second > 0.99 and third < 0.01  # noqa: PT018
    assert acceptance.chain(2) == pytest.approx([first, first * second], rel=0.1)
    assert acceptance.chain(3)[2] < 0.15
    like = Acceptance(3, acceptance)
    like.observe(3, 0)
    assert like.rates[0] < first == acceptance.rates[0]


def test_a_position_that_was_not_seen_is_like_the_one_before():
    acceptance = Acceptance(3)
    before = acceptance.chain(3)
    assert before == sorted(before, reverse=True)
    for _ in range(40):
        acceptance.observe(1, 1)
    good = acceptance.chain(3)
    assert good[0] > 0.9
    assert good[2] > 0.75
    for _ in range(40):
        acceptance.observe(1, 0)
    assert acceptance.chain(3)[2] < 0.01


def test_costs_interpolate_and_are_corrected():
    costs = Costs({1: {1: 1.0, 4: 1.6}, 8: {8: 2.0, 32: 8.0}}, {(1, False): 0.1, (8, False): 0.3})
    assert costs.step(1, 2) == pytest.approx(1.2)
    assert costs.step(8, 20) == pytest.approx(5.0)
    assert costs.step(1, 1) < costs.step(4, 4) < costs.step(8, 8)
    assert costs.draft(1, False) == pytest.approx(0.1)
    assert 0.1 < costs.draft(4, False) < 0.3
    for _ in range(400):
        costs.on_step(1, 1, 3.0)
        costs.on_draft(1, 2, False, 1.0)
    assert costs.step(1, 1) == pytest.approx(3.0, rel=0.05)
    assert costs.step(1, 4) > 1.6  # what was not seen grows along
    assert costs.draft(1, False) == pytest.approx(0.5, rel=0.05)
    costs.on_step(1, 1, 1e9)  # a hiccup is not believed
    assert costs.step(1, 1) < 4.0


def run_trial(trial, rates, n_steps):
    """Steps whose tokens a second are as told for each way; how many of them drafted."""
    n_drafting = 0
    for _ in range(n_steps):
        with_drafts = trial.may_draft()
        n_drafting += with_drafts
        trial.observe(with_drafts, 4, 4 / rates[with_drafts])
    return n_drafting


@pytest.mark.parametrize("gain", [0.7, 0.97, 1.1, 1.5])
def test_the_better_way_is_taken_mostly(gain):
    trial = Trial()
    run_trial(trial, (100.0, 100.0 * gain), 100)
    n_drafting = run_trial(trial, (100.0, 100.0 * gain), 2000)
    assert n_drafting < 140 if gain < 1.0 else n_drafting > 1860
    assert trial.rates == pytest.approx((100.0, 100.0 * gain))


def test_both_ways_are_looked_at_again():
    trial = Trial()
    run_trial(trial, (100.0, 60.0), 600)
    assert run_trial(trial, (100.0, 140.0), 6000) > 3000


def test_disturbed_steps_say_nothing():
    trial = Trial()
    run_trial(trial, (100.0, 130.0), 100)
    before = trial.rates
    for way in (False, False, True, True):
        trial.observe(way, 4, 10.0)
    assert trial.rates == before


def test_nothing_to_compare_with_until_both_were_seen():
    trial = Trial()
    assert trial.rates == (0.0, 0.0)
    ways = set()
    for _ in range(40):
        way = trial.may_draft()
        ways.add(way)
        trial.observe(way, 1, 1.0)
    assert ways == {False, True}


def test_costs_without_any_measurement():
    costs = Costs()
    assert 0 < costs.step(1, 1) < costs.step(1, 4) < costs.step(8, 32)
    assert 0 < costs.draft(3, True) < costs.step(3, 3)


@pytest.mark.parametrize(
    ("tokens", "n_max", "want"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], 4, [4, 5, 1, 2]),
        ([1, 2, 3, 9, 1, 2, 3, 7, 1, 2, 3], 1, [7]),  # the latest
        ([8, 1, 2, 3, 9, 1, 2, 3, 7, 8, 1, 2, 3], 1, [9]),  # but rather the longest
        ([5, 5, 5, 5], 3, [5, 5, 5]),
        ([1, 2, 1, 2, 1, 2], 5, [1, 2, 1, 2, 1]),  # repeats past the end
        ([1, 2, 3, 4, 2, 3], 4, []),
        ([1, 2], 4, []),
        ([], 4, []),
    ],
)
def test_lookup(tokens, n_max, want):
    history = np.array([*tokens, -1, -1, -1], np.int32)
    assert lookup(history, len(tokens), n_max).tolist() == want


def test_lookup_equals_a_plain_search():
    rng = np.random.default_rng(1)
    for _ in range(300):
        n = int(rng.integers(1, 60))
        tokens = rng.integers(0, 3, n).tolist()
        found = lookup(np.array(tokens, np.int32), n, 3).tolist()
        best, length = None, MIN_MATCH - 1
        for end in range(MIN_MATCH - 1, n - 1):
            k = 0
            while k <= end and k < 12 and tokens[end - k] == tokens[n - 1 - k]:
                k += 1
            if k >= max(length, MIN_MATCH):
                best, length = end, k
        if best is None:
            assert found == []
        else:
            period = n - best - 1
            assert found == [tokens[best + 1 + i % period] for i in range(3)]


def test_drafting_stops_where_nothing_is_accepted_and_is_tried_again():
    """The budget is real here: rows and passes cost a tenth of a step."""
    costs = costs_of(0.1, 0.1)
    costs.on_step = costs.on_draft = lambda *_: None
    costs.may_draft = lambda n_seqs: True
    turn = [False]
    bench = speculating("hybrid", 3, lambda *_: turn[0], costs=costs, n_ctx=1024, n_blocks=256)
    job = bench.add(prompt_of(5), max_tokens=900, ignore_eos=True)
    for _ in range(400):
        bench.step()
    counters = bench.core.meter.counters
    early, n_generated = counters.n_draft_tokens, counters.n_generated_tokens
    for _ in range(200):
        bench.step()
    assert early < 100
    assert counters.n_draft_tokens - early <= 3
    assert counters.n_generated_tokens - n_generated == 200
    turn[0] = True
    bench.run()
    bench.check(*job)
    assert counters.n_draft_accepted > 20  # probes found out that it pays again


def test_bounds_of_a_request_are_checked():
    on, off = SpecConfig((NGRAM,), 4, 1), SpecConfig()
    check_speculative(SpecParams(), off)
    check_speculative(SpecParams(n_max=0), off)
    check_speculative(SpecParams(n_max=4, n_min=2, p_min=0.5), on)
    for wishes, config, field in (
        (SpecParams(n_max=1), off, "n_max"),
        (SpecParams(n_max=5), on, "n_max"),
        (SpecParams(n_max=-1), on, "n_max"),
        (SpecParams(n_min=5), on, "n_min"),
        (SpecParams(n_max=1, n_min=2), on, "n_min"),
        (SpecParams(p_min=1.5), on, "p_min"),
    ):
        with pytest.raises(InvalidRequestError) as info:
            check_speculative(wishes, config)
        assert info.value.field == f"speculative.{field}"


@pytest.mark.parametrize(
    "bad", [{"types": ("eagle",)}, {"n_min": 3, "n_max": 2}, {"n_max": -1}, {"p_min": 2.0}]
)
def test_a_configuration_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=r"unknown|range"):
        SpecConfig(**({"types": (MTP,), "n_max": 4} | bad))
