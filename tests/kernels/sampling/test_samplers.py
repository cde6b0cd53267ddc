"""Samplers beyond the usual ones against the twins in tests/reference/samplers.py."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.engine.request import SAMPLERS, SamplingParams
from slotmux.runtime.token_sets import Breakers, TokenSequences, TokenSet
from tests.kernels.conftest import usable_isas
from tests.kernels.sampling.harness import N_CTX, Sampler
from tests.kernels.sampling.test_draw import KINDS, SIZES, make_logits, off_or
from tests.reference import samplers as twins
from tests.reference import sampling as twin


def breakers_of(sequences, n_vocab):
    single = np.array([s[0] for s in sequences if len(s) == 1], np.int32)
    return Breakers.of(single, [s for s in sequences if len(s) > 1], n_vocab)


@st.composite
def cases(draw):
    n = draw(st.sampled_from(SIZES))
    ids = st.integers(0, n - 1)
    near = st.integers(0, min(n - 1, 4))  # few different tokens: they repeat
    sequences = st.lists(st.lists(near, min_size=1, max_size=3), max_size=3)
    names = st.lists(st.sampled_from(SAMPLERS), max_size=10)
    order = draw(st.one_of(st.just(SAMPLERS), st.permutations(SAMPLERS), names))
    params = {
        "samplers": tuple(order),
        "temperature": draw(st.sampled_from((0.0, 0.3, 0.8, 1.0, 1.7))),
        "top_k": draw(off_or(0, st.integers(1, n + 2))),
        "top_p": draw(off_or(1.0, st.floats(0.05, 0.99))),
        "min_p": draw(off_or(0.0, st.floats(0.001, 1))),
        "typical_p": draw(off_or(1.0, st.floats(0.05, 0.99))),
        "top_n_sigma": draw(off_or(-1.0, st.floats(0.1, 4))),
        "xtc_probability": draw(off_or(0.0, st.floats(0.1, 1))),
        "xtc_threshold": draw(st.sampled_from((0.0, 0.01, 0.1, 0.6))),
        "dynatemp_range": draw(off_or(0.0, st.floats(0.1, 2))),
        "dynatemp_exponent": draw(st.sampled_from((1.0, 0.5, 2.0, 0.0))),
        "min_keep": draw(st.sampled_from((0, 1, 3, 7))),
        "repeat_penalty": draw(off_or(1.0, st.floats(0.5, 2))),
        "presence_penalty": draw(off_or(0.0, st.floats(-2, 2))),
        "repeat_last_n": draw(st.sampled_from((-1, 0, 7, 64))),
        "dry_multiplier": draw(off_or(0.0, st.floats(0.1, 2))),
        "dry_base": draw(st.sampled_from((1.75, 1.0, 3.0, 0.5, 1e6))),
        "dry_allowed_length": draw(st.integers(0, 4)),
        "dry_penalty_last_n": draw(st.sampled_from((-1, 0, 5, 30))),
        "dry_breakers": breakers_of(draw(sequences), n),
        "bad_words": TokenSequences.of(draw(sequences)),
        "seed": draw(st.integers(0, 2**64)),
        "n_logprobs": draw(st.sampled_from((-1, 0, 5))),
    }
    allowed = draw(st.one_of(st.none(), st.sets(ids, min_size=1)))
    params["allowed"] = None if allowed is None else TokenSet.of(allowed, n)
    history = draw(st.lists(near, max_size=60))
    return n, draw(st.sampled_from(KINDS)), draw(st.integers(0, 2**32)), params, history


def check(team, case):
    n, kind, rng_seed, params, history = case
    if kind == "spread" and (params["typical_p"] < 1 or params["top_n_sigma"] > 0):
        kind = "wide"
    logits = make_logits(kind, n, np.random.default_rng(rng_seed))
    sampler = Sampler(team, logits[None])
    p = sampler.set(0, history, **params)
    pos = len(history)
    token = int(sampler.draw([pos])[0])
    allowed = None
    if p.allowed is not None:
        allowed = np.isin(np.arange(n), sorted(twins.tokens_of(p.allowed)))
    x = twin.edited(logits, p, history, allowed=allowed)
    if x.max() == -np.inf:
        assert token == -1
        return
    xtc = twin.uniform(p.seed, pos, 1)
    found = twin.acceptable(x, p, twin.uniform(p.seed, pos), history=history, xtc=xtc)
    assert token in found
    if p.n_logprobs >= 0:
        logprob = float(sampler.ub.logprob[0])
        assert logprob == pytest.approx(twin.logprobs(x)[token], abs=5e-6, rel=5e-6)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(case=cases())
def test_draws_match_the_twins(team_of, case):
    check(team_of(), case)


@pytest.mark.parametrize("isa", usable_isas())
def test_every_path_draws_the_same(team_of, isa):
    rng = np.random.default_rng(8)
    logits = (rng.normal(size=(1, 1003)) * 3).astype(np.float32)
    for params in UNUSUAL:
        drawn = []
        for name in (isa, "portable"):
            sampler = Sampler(team_of(name), logits)
            sampler.set(0, rng_history(), seed=3, n_logprobs=2, **params)
            tokens = sampler.draw(np.arange(20, 60)).tolist()
            drawn.append((tokens, sampler.ub.logprob[:40].tobytes()))
        assert drawn[0] == drawn[1], params


def rng_history():
    return np.random.default_rng(2).integers(0, 5, N_CTX)


UNUSUAL = (
    {"top_n_sigma": 1.2, "temperature": 1.5},
    {"xtc_probability": 0.7, "xtc_threshold": 0.02, "top_k": 50},
    {"dry_multiplier": 0.8, "dry_breakers": breakers_of([[1], [2, 3]], 1003)},
    {"dynatemp_range": 0.7, "dynatemp_exponent": 1.3, "top_p": 0.95},
    {"min_keep": 5, "min_p": 0.5, "typical_p": 0.3},
    {"samplers": ("temperature", "top_p", "dry", "penalties"), "dry_multiplier": 1.0,
     "top_p": 0.9, "temperature": 0.7, "presence_penalty": 0.5},
    {"mirostat": 1, "mirostat_tau": 3.0}, {"mirostat": 2, "mirostat_tau": 3.0},
    {"bad_words": TokenSequences.of([[7], [1, 9], [2, 3, 4]])},
    {"allowed": TokenSet.of(range(100, 400), 1003)},
)  # fmt: skip


@pytest.mark.parametrize("params", UNUSUAL)
def test_neither_company_nor_threads_matter(team_of, params):
    rng = np.random.default_rng(5)
    logits = (rng.normal(size=(3, 1003)) * 3).astype(np.float32)
    order = np.repeat(rng.permutation(4), 12)  # draws of a slot stand together
    positions = np.tile(np.arange(30, 42), 4)
    rows = rng.integers(0, 3, 48)
    found = []
    for n_threads in (1, 2, 5):
        sampler = Sampler(team_of("auto", n_threads), logits, n_slots=4)
        for slot in range(4):
            kind = params if slot else {"temperature": 0.9}
            sampler.set(slot, rng_history(), seed=slot, n_logprobs=1, **kind)
        found.append(sampler.draw(positions, order, rows).tobytes())
        found[-1] += sampler.ub.logprob[:48].tobytes()
    assert len(set(found)) == 1
    alone = Sampler(team_of(), logits, n_slots=4)
    alone.set(2, rng_history(), seed=2, n_logprobs=1, **params)
    mine = [i for i in range(48) if order[i] == 2]
    drawn = alone.draw(positions[mine], 2, rows[mine])
    assert drawn.tobytes() == np.frombuffer(found[0][: 48 * 4], np.int32)[mine].tobytes()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("n", [1, 3, 129, 1003])
def test_mirostat_follows_the_twin(team_of, version, n):
    rng = np.random.default_rng(n)
    logits = (rng.normal(size=(40, n)) * 3).astype(np.float32)
    sampler = Sampler(team_of(), logits)
    p = sampler.set(mirostat=version, mirostat_tau=2.5, mirostat_eta=0.3, temperature=0.9, seed=6)
    mu, n_other = 5.0, 0
    for pos in range(40):
        token = int(sampler.draw([pos], 0, [pos])[0])
        ids, chances = twins.mirostat(logits[pos], p, mu, n)
        if token not in ids:  # a border, rounded to the other side
            n_other += 1
            ids, chances = twins.mirostat(logits[pos], p, mu + 1e-4, n)
        number = twin.uniform(6, pos)
        place = int(np.flatnonzero(ids == token)[0])
        before = chances[:place].sum()
        assert before - 1e-5 <= number <= before + chances[place] + 1e-5
        mu = twins.next_mu(p, mu, chances[place])
        assert sampler.table.state(0, pos + 1).mu == pytest.approx(mu, abs=1e-4)
    assert n_other <= 2


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_forgets_what_wrong_drafts_drew(team_of, version):
    rng = np.random.default_rng(4)
    logits = (rng.normal(size=(40, 300)) * 3).astype(np.float32)
    params = {"mirostat": version, "mirostat_tau": 2.0, "mirostat_eta": 0.5, "seed": 9}
    one = Sampler(team_of(), logits)
    one.set(**params)
    expected = [int(one.draw([pos], 0, [pos])[0]) for pos in range(40)]
    # In runs that go further than what is kept, moved to another slot now and then.
    other = Sampler(team_of("auto", 2), logits, n_slots=2)
    given = other.set(slot=0, **params)
    pos, slot, got = 0, 0, []
    while pos < 40:
        n, kept = min(int(rng.integers(1, 6)), 40 - pos), int(rng.integers(1, 6))
        rows = np.arange(pos, pos + n)
        wrong = rows.copy()
        wrong[kept:] = rng.integers(0, 40, len(wrong[kept:]))
        got += other.draw(rows, slot, wrong)[: min(n, kept)].tolist()
        pos += min(n, kept)
        if rng.random() < 0.3 and pos < 40:
            state = other.table.state(slot, pos)
            other.table.clear(slot)
            slot = 1 - slot
            other.table.set(slot, given, other.history[slot], frozenset(), 0, state)
    assert got == expected


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_comes_to_its_target(team_of, version):
    logits = -np.log(np.arange(1, 2001, dtype=np.float32))[None] * np.float32(1.1)
    sampler = Sampler(team_of(), logits)
    p = sampler.set(mirostat=version, mirostat_tau=4.0, mirostat_eta=0.1)
    surprises, mu = [], 8.0
    for pos in range(N_CTX):
        sampler.draw([pos])
        after = sampler.table.state(0, pos + 1).mu
        surprises.append((mu - after) / p.mirostat_eta + p.mirostat_tau)
        mu = after
    assert np.mean(surprises[20:]) == pytest.approx(4.0, abs=0.6)


def test_draws_before_the_first_leave_mirostat_alone(team_of):
    from slotmux.runtime.engine.request import SamplerState

    logits = np.random.default_rng(0).normal(size=(1, 100)).astype(np.float32)
    sampler = Sampler(team_of(), logits)
    params = SamplingParams(mirostat=2)
    sampler.table.set(0, params, sampler.history[0], frozenset(), 0, SamplerState(10, 4.5))
    sampler.draw(np.arange(10))
    assert sampler.table.state(0, 10).mu == 4.5
    sampler.draw([10])
    assert sampler.table.state(0, 11).mu != 4.5


def test_dry_examples_of_its_author(team_of):
    """The example of llama.cpp's source: a b c c b c y a b c."""
    history = [0, 1, 2, 2, 1, 2, 3, 0, 1, 2]
    p = SamplingParams(dry_multiplier=1.0, dry_base=2.0, dry_allowed_length=2)
    assert twins.dry_penalties(p, history) == {2: 2.0, 3: 1.0}
    logits = np.zeros((1, 5), np.float32)
    sampler = Sampler(team_of(), logits)
    sampler.set(0, history, dry_multiplier=1.0, dry_base=2.0, n_logprobs=5)
    sampler.draw([10])
    ids, values = sampler.ub.top_ids[0, :5].tolist(), sampler.ub.top_logprobs[0, :5]
    top = dict(zip(ids, values, strict=True))
    assert top[0] - top[2] == pytest.approx(2.0, abs=1e-6)
    assert top[0] - top[3] == pytest.approx(1.0, abs=1e-6)


def test_a_text_of_one_token_is_left(team_of):
    logits = np.zeros((1, 50), np.float32)
    sampler = Sampler(team_of(), logits)
    sampler.set(0, [3] * N_CTX, dry_multiplier=0.1, dry_base=1.01, temperature=0.0)
    assert sampler.draw([N_CTX - 1]).tolist() == [0]


@pytest.mark.parametrize("name", ["top_n_sigma", "xtc", "dynatemp", "mirostat", "min_keep"])
def test_extreme_logits_are_defined(team_of, name):
    top = np.finfo(np.float32).max
    logits = np.array([[-top, top, 0.0, np.nextafter(top, np.float32(0)), -np.inf]], np.float32)
    on = {
        "top_n_sigma": {"top_n_sigma": 1.0}, "mirostat": {"mirostat": 2},
        "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.0}, "min_keep": {"min_keep": 9},
        "dynatemp": {"dynatemp_range": 5.0, "temperature": 0.0},
    }[name]  # fmt: skip
    for temperature in (1e-300, 1.0, 1e300):
        sampler = Sampler(team_of(), logits)
        sampler.set(**({"temperature": temperature, "top_p": 0.9} | on))
        drawn = sampler.draw(np.arange(40))
        assert ((drawn >= 0) & (drawn < 4)).all()
    sampler.set(mirostat=1)
    assert (sampler.draw(np.arange(9)) >= 0).all()


def test_out_of_range_names_the_parameter(team_of):
    from slotmux.runtime.engine.request import InvalidRequestError

    table = Sampler(team_of(), np.zeros((1, 9), np.float32)).table
    bad = {
        "mirostat": 3, "mirostat_tau": -1.0, "mirostat_eta": math.nan, "dry_base": -1.0,
        "dry_multiplier": -0.1, "dry_allowed_length": -1, "dry_penalty_last_n": -2,
        "xtc_probability": 1.1, "xtc_threshold": -0.1, "dynatemp_range": -1.0,
        "dynatemp_exponent": -1.0, "min_keep": -1, "top_n_sigma": math.nan,
        "samplers": ("top_k", "nonsense"),
    }  # fmt: skip
    for field, value in bad.items():
        with pytest.raises(InvalidRequestError) as caught:
            table.check(replace(SamplingParams(), **{field: value}))
        assert caught.value.field == field
    with pytest.raises(InvalidRequestError) as caught:
        table.check(SamplingParams(bad_words=TokenSequences.of([[9]])))
    assert caught.value.field == "bad_words"
