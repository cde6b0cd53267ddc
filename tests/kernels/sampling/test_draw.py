"""Draws against the twin in tests/reference/sampling.py, and what they must never depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.sampling.harness import N_CTX, Sampler
from tests.reference import sampling as twin

SIZES = (1, 2, 5, 15, 16, 17, 64, 127, 128, 129, 255, 257, 1000, 5003)


def make_logits(kind, n, rng):
    """Rows of very different shapes; every one has a value that is not -inf."""
    x = rng.normal(size=n).astype(np.float32)
    if kind == "flat":
        x *= np.float32(0.01)
    elif kind == "wide":
        x *= np.float32(8)
    elif kind == "ties":
        x = np.round(x * 2) / 2
    elif kind == "equal":
        x[:] = 1.25
    elif kind == "holes":
        x[rng.random(n) < 0.7] = -np.inf
        x[rng.integers(n)] = 0.5
    elif kind == "spread":  # many binades, so that cuts are looked for at many scales
        x = -np.exp2(rng.integers(-40, 4, n)).astype(np.float32)
    elif kind == "peak":
        x[rng.integers(n)] += 12
    return x.astype(np.float32)


KINDS = ("normal", "flat", "wide", "ties", "equal", "holes", "spread", "peak")


def off_or(value, strategy):
    return st.one_of(st.just(value), strategy)


@st.composite
def cases(draw):
    n = draw(st.sampled_from(SIZES))
    ids = st.integers(0, n - 1)
    bias = st.one_of(st.floats(-5, 5, width=32), st.just(-math.inf))
    params = {
        "temperature": draw(st.sampled_from((0.0, 0.3, 0.8, 1.0, 1.0, 1.7))),
        "top_k": draw(off_or(0, st.integers(1, n + 2))),
        "top_p": draw(off_or(1.0, st.floats(0, 1))),
        "min_p": draw(off_or(0.0, st.floats(0.001, 1))),
        "typical_p": draw(off_or(1.0, st.floats(0.05, 0.99))),
        "repeat_penalty": draw(off_or(1.0, st.floats(0.5, 2))),
        "frequency_penalty": draw(off_or(0.0, st.floats(-2, 2))),
        "presence_penalty": draw(off_or(0.0, st.floats(-2, 2))),
        "repeat_last_n": draw(st.sampled_from((-1, 0, 1, 7, 64))),
        "logit_bias": draw(off_or((), st.dictionaries(ids, bias, max_size=4).map(dict.items))),
        "seed": draw(st.integers(-(2**63), 2**64)),
        "n_logprobs": draw(st.sampled_from((-1, 0, 1, 5, 20))),
    }
    params["logit_bias"] = tuple(params["logit_bias"])
    history = draw(st.lists(ids, max_size=40))
    banned = draw(st.sets(ids, max_size=3))
    min_pos = draw(st.sampled_from((0, 10, 100)))
    kind = draw(st.sampled_from(KINDS))
    if kind == "spread" and params["typical_p"] < 1:
        kind = "wide"  # distances too near to each other for their order to be defined
    return n, kind, draw(st.integers(0, 2**32)), params, history, banned, min_pos


@settings(max_examples=400, deadline=None, derandomize=True)
@given(case=cases())
def test_draws_and_logprobs_match_the_twin(team_of, case):
    n, kind, rng_seed, params, history, banned, min_pos = case
    logits = make_logits(kind, n, np.random.default_rng(rng_seed))
    sampler = Sampler(team_of(), logits[None])
    p = sampler.set(0, history, banned, min_pos, **params)
    pos = len(history)
    token = int(sampler.draw([pos])[0])
    x = twin.edited(logits, p, history, banned, min_pos)
    if x.max() == -np.inf:
        assert token == -1
        return
    assert token in twin.acceptable(x, p, twin.uniform(p.seed, pos))
    logprob = float(sampler.ub.logprob[0])
    if p.n_logprobs < 0:
        assert math.isnan(logprob)
        return
    assert logprob == pytest.approx(twin.logprobs(x)[token], abs=3e-6, rel=3e-6)
    expected = twin.top(x, p.n_logprobs)
    ids = sampler.ub.top_ids[0, : p.n_logprobs].tolist()
    values = sampler.ub.top_logprobs[0, : p.n_logprobs].tolist()
    n_left = p.n_logprobs - len(expected)
    assert ids == [i for i, _ in expected] + [-1] * n_left
    assert values == pytest.approx(
        [v for _, v in expected] + [-math.inf] * n_left, abs=3e-6, rel=3e-6
    )


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.5, "top_k": 12},
        {"top_p": 0.8, "temperature": 0.9},
        {"min_p": 0.1},
        {"typical_p": 0.7},
        {"top_k": 30, "top_p": 0.9, "min_p": 0.02, "temperature": 0.8},
    ],
)
def test_frequencies_are_the_distribution(team_of, params):
    logits = np.random.default_rng(5).normal(size=150).astype(np.float32) * 2
    sampler = Sampler(team_of(), logits[None], n_draws=2000)
    p = sampler.set(seed=99, **params)
    n_rounds = 10
    counts = np.zeros(len(logits))
    for i in range(n_rounds):
        np.add.at(counts, sampler.draw(np.arange(2000) + 2000 * i), 1)
    ids = twin.candidates(logits, p)
    weights = np.exp((logits[ids].astype(np.float64) - logits.max()) / p.temperature)
    expected = weights / weights.sum() * 2000 * n_rounds
    assert counts.sum() == counts[ids].sum()
    order = np.argsort(expected)
    rare = np.cumsum(expected[order]) < 10  # pooled
    observed = np.append(counts[ids][order][~rare], counts[ids][order][rare].sum())
    wanted = np.append(expected[order][~rare], max(expected[order][rare].sum(), 1e-9))
    chi2 = ((observed - wanted) ** 2 / wanted)[wanted > 1].sum()
    freedom = len(wanted) - 1
    assert chi2 < freedom + 5 * math.sqrt(2 * freedom)


def test_random_number_is_splitmix64_of_seed_and_position(team_of):
    n = 256  # equal weights: the token is the number's first 8 bits, exactly
    for seed in (0, 1, 2, -1, 2**63, 2**64 - 1, 2**64, 12345678901234567):
        sampler = Sampler(team_of(), np.zeros((1, n), np.float32))
        sampler.set(seed=seed)
        positions = [0, 1, 2, 3, 95, 10**6, 2**31 - 1]
        expected = [int(twin.uniform(seed, pos) * n) for pos in positions]
        assert sampler.draw(positions).tolist() == expected
    # The published first outputs of SplitMix64 from state 1234567.
    assert twin.splitmix64(1234567, 0) == 6457827717110365317
    assert twin.splitmix64(1234567, 1) == 3203168211198807973


def test_seeds_next_to_each_other_draw_independently(team_of):
    sampler = Sampler(team_of(), np.zeros((1, 256), np.float32), n_draws=1000)
    rows = []
    for seed in range(4):
        sampler.set(seed=seed)
        rows.append(sampler.draw(np.arange(1000)).astype(float))
    correlation = np.corrcoef(rows) - np.eye(4)
    assert np.abs(correlation).max() < 0.15
    shifted = np.corrcoef(rows[0][1:], rows[1][:-1])[0, 1]
    assert abs(shifted) < 0.15


MIXED = (
    {"temperature": 0.0},
    {},
    {"temperature": 0.7, "top_k": 40, "top_p": 0.9},
    {"repeat_penalty": 1.3, "frequency_penalty": 0.4, "repeat_last_n": -1, "seed": 3},
    {"logit_bias": ((3, 5.0), (4, -math.inf)), "n_logprobs": 20},
    {"typical_p": 0.6, "seed": 8},
    {"min_p": 0.05, "temperature": 1.4, "n_logprobs": 0},
    {"presence_penalty": 1.0, "temperature": 0.0, "n_logprobs": 3},
)


def mixed_sampler(team, logits):
    rng = np.random.default_rng(11)
    sampler = Sampler(team, logits, n_slots=len(MIXED))
    for slot, params in enumerate(MIXED):
        history = rng.integers(0, logits.shape[1], 50)
        sampler.set(slot, history, banned=(1, 2), min_pos=30, **params)
    return sampler


def results(sampler, n):
    """Of each draw the token and all bits of its logprobs."""
    ub = sampler.ub
    found = []
    for i in range(n):
        n_top = max(0, MIXED[ub.sample_slot[i]].get("n_logprobs", -1))
        top = ub.top_ids[i, :n_top].tobytes() + ub.top_logprobs[i, :n_top].tobytes()
        found.append((int(ub.sampled[i]), ub.logprob[i].tobytes(), top))
    return found


def test_a_draw_depends_on_its_row_parameters_and_position_alone(team_of):
    """Every thread count, order of draws, and company gives the same bits; rows may be shared."""
    rng = np.random.default_rng(3)
    logits = (rng.normal(size=(3, 1003)) * 3).astype(np.float32)
    n = 48
    slots, rows = rng.integers(0, len(MIXED), n), rng.integers(0, 3, n)
    positions = rng.integers(1, 50, n)
    alone = []
    for i in range(n):
        sampler = mixed_sampler(team_of(), logits)
        sampler.draw(positions[i : i + 1], slots[i : i + 1], rows[i : i + 1])
        alone += results(sampler, 1)
    for n_threads in (1, 2, 5):
        sampler = mixed_sampler(team_of("auto", n_threads), logits)
        before = sampler.buffer.tobytes()
        for _ in range(5):
            order = rng.permutation(n)
            sampler.draw(positions[order], slots[order], rows[order])
            assert results(sampler, n) == [alone[i] for i in order]
        assert sampler.buffer.tobytes() == before, "the logits were changed"


def test_asking_for_logprobs_does_not_change_the_draw(team_of):
    logits = np.random.default_rng(1).normal(size=(1, 700)).astype(np.float32)
    for params in ({}, {"temperature": 0.5}, {"top_p": 0.7}, {"top_k": 9}, {"temperature": 0.0}):
        drawn = []
        for n_logprobs in (-1, 0, 20):
            sampler = Sampler(team_of(), logits)
            sampler.set(n_logprobs=n_logprobs, **params)
            drawn.append(sampler.draw(np.arange(60)).tolist())
        assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("n", [5, 128, 333])
def test_a_row_with_nan_or_inf_draws_nothing(team_of, bad, n):
    rng = np.random.default_rng(0)
    for at in {0, n // 2, n - 1}:
        logits = rng.normal(size=(2, n)).astype(np.float32)
        logits[0, at] = bad
        # Neither a ban nor a bias nor a mask hides it.
        masks = np.zeros(64, np.int64)
        mask = np.zeros(-(-n // 32), np.uint32)
        mask[0] = 1 if at else 2
        masks[5] = mask.ctypes.data
        sampler = Sampler(team_of(), logits, n_slots=3, masks=masks)
        sampler.set(0, temperature=0.0)
        sampler.set(1, banned=(at,), min_pos=1000, n_logprobs=3)
        sampler.set(2, logit_bias=((at, -math.inf),), top_p=0.9)
        drawn = sampler.draw([7] * 6, [0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 0])
        assert drawn[[0, 1, 2, 5]].tolist() == [-1] * 4
        assert math.isnan(sampler.ub.logprob[1])
        assert (drawn[3:5] >= 0).all()


@pytest.mark.parametrize("params", MIXED)
@pytest.mark.parametrize("n", [1, 16, 130])
def test_one_token_left_is_always_drawn(team_of, params, n):
    for only in {0, n // 2, n - 1}:
        logits = np.full((1, n), -np.inf, np.float32)
        logits[0, only] = -3.5
        sampler = Sampler(team_of(), logits)
        sampler.set(**{**params, "logit_bias": ()})
        assert (sampler.draw(np.arange(20)) == only).all()
    sampler = Sampler(team_of(), np.full((1, n), -np.inf, np.float32))
    sampler.set(**{**params, "logit_bias": ()})
    assert (sampler.draw(np.arange(3)) == -1).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_end_tokens_are_banned_below_min_pos(team_of, temperature):
    logits = np.zeros((1, 40), np.float32)
    logits[0, [4, 9, 39]] = 50
    sampler = Sampler(team_of(), logits)
    sampler.set(banned=(4, 9, 39), min_pos=30, temperature=temperature)
    drawn = sampler.draw(np.arange(60))
    assert not np.isin(drawn[:30], (4, 9, 39)).any()
    assert np.isin(drawn[30:], (4, 9, 39)).all()


@pytest.mark.parametrize("n", [5, 16, 33, 128, 500])
def test_a_mask_allows_tokens_draw_by_draw(team_of, n):
    rng = np.random.default_rng(n)
    logits = rng.normal(size=(1, n)).astype(np.float32)
    masks = np.zeros(64, np.int64)
    kept = []
    allowed = rng.random((10, n)) < 0.2
    allowed[np.arange(10), rng.integers(0, n, 10)] = True
    for i in range(10):
        bits = np.zeros(-(-n // 32) * 32, np.uint8)
        bits[:n] = allowed[i]
        kept.append(np.packbits(bits, bitorder="little"))
        masks[i] = kept[-1].ctypes.data
    for params in ({}, {"temperature": 0.0}, {"top_k": 3, "top_p": 0.9}):
        sampler = Sampler(team_of(), logits, masks=masks)
        p = sampler.set(n_logprobs=2, **params)
        drawn = sampler.draw(np.arange(12))
        for i in range(12):
            x = twin.edited(logits[0], p, [], allowed=allowed[i] if i < 10 else None)
            assert drawn[i] in twin.acceptable(x, p, twin.uniform(p.seed, i))
            best = [t for t, _ in twin.top(x, 2)]
            assert sampler.ub.top_ids[i, :2].tolist() == best + [-1] * (2 - len(best))


def test_penalties_look_at_the_last_tokens_before_the_position(team_of):
    logits = np.array([[2.0, 1.9, 1.8, -5.0]], np.float32)
    history = [0, 0, 1, 2, 2, 2]
    sampler = Sampler(team_of(), logits)
    sampler.set(0, history, temperature=0.0, presence_penalty=0.5, repeat_last_n=2)
    # Windows: nothing; 0; 0 0; 0 1; 1 2; 2 2.
    assert sampler.draw([0, 1, 2, 3, 4, 5]).tolist() == [0, 1, 1, 2, 0, 0]
    sampler.set(0, history, temperature=0.0, frequency_penalty=0.06, repeat_last_n=-1)
    assert sampler.draw([0, 1, 2, 3, 6]).tolist() == [0, 0, 1, 0, 0]
    sampler.set(0, history, temperature=0.0, repeat_penalty=4.0, repeat_last_n=0)
    assert sampler.draw([6]).tolist() == [0]


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e300])
def test_extreme_temperatures_and_magnitudes_are_defined(team_of, temperature):
    top = np.finfo(np.float32).max
    logits = np.array([[-top, top, 0.0, np.nextafter(top, np.float32(0)), -np.inf]], np.float32)
    sampler = Sampler(team_of(), logits)
    for params in ({}, {"top_p": 0.5}, {"top_k": 2}, {"typical_p": 0.5}, {"min_p": 0.5}):
        sampler.set(temperature=temperature, n_logprobs=4, **params)
        drawn = sampler.draw(np.arange(40))
        assert ((drawn >= 0) & (drawn < 4)).all()
        if temperature < 1:
            assert (drawn == 1).all()
    # Biases and penalties that overflow leave a largest token, not an inf.
    sampler.set(logit_bias=((2, 3e38), (1, 3e38)), temperature=0.0)
    assert sampler.draw([0]).tolist() == [1]


def test_a_large_vocabulary_agrees_with_the_twin(team_of):
    rng = np.random.default_rng(2)
    n = 250_037
    logits = (rng.normal(size=n) * 2.5).astype(np.float32)
    for params in (
        {},
        {"top_p": 0.95},
        {"top_p": 0.9999},
        {"top_k": 100_000},
        {"top_k": 40, "min_p": 0.1, "temperature": 0.8},
        {"typical_p": 0.9},
        {"repeat_penalty": 1.2, "temperature": 0.0},
    ):
        sampler = Sampler(team_of(), logits[None])
        p = sampler.set(0, rng.integers(0, n, N_CTX), seed=4, **params)
        token = int(sampler.draw([60])[0])
        x = twin.edited(logits, p, sampler.history[0, :60])
        # Of so many tokens several lie between the borders that the twin moves.
        near = twin.acceptable(x, p, twin.uniform(p.seed, 60))
        assert min(near) <= token <= max(near)
