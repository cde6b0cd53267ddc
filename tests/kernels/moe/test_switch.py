"""Which adapter each token takes: the rounded mean of those called so far, however a text is cut,
and whatever drafts of it are right."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.moe.switch import STATE_FLOATS, SWITCH, build_switch
from tests.kernels.recurrent.harness import Bench

CALLED = np.array([0, 1, 2, 7, 0, 4], np.int32)  # by token
TEXTS = {
    3: [0, 4, 1, 0, 2, 4, 3, 3, 0, 5, 4, 4],
    0: [4, 0, 0, 4, 0],
    5: [3, 0, 1, 1, 1, 1, 1],
}


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


def expected(tokens):
    """Means of what was called, halves up."""
    out, calls = [], []
    for token in tokens:
        calls += [CALLED[token]] if CALLED[token] else []
        out.append(int(np.floor(np.mean(calls) + 0.5)) if calls else 0)
    return out


def switch(bench, runs):
    """Ids of [(slot, tokens)], by run."""
    tokens = np.array([token for _, text in runs for token in text], np.int32)
    ids, weights = np.full(len(tokens), -1, np.int32), np.full(len(tokens), np.nan, np.float32)
    bench.run(
        "switch", build_switch, SWITCH, [(slot, len(text)) for slot, text in runs],
        called=CALLED, tokens=tokens, ids=ids, weights=weights,
    )  # fmt: skip
    assert (weights == 1.0).all()
    return [part.tolist() for part in np.split(ids, np.cumsum([len(t) for _, t in runs])[:-1])]


def test_halves_go_up_and_who_called_nobody_has_none():
    assert expected(TEXTS[3]) == [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4]
    assert expected(TEXTS[0]) == [0] * 5


@pytest.mark.parametrize("cut", [1, 2, 4, 5])
def test_cut_and_packed(team, cut):
    bench = Bench(team, STATE_FLOATS, STATE_FLOATS)
    first = switch(bench, [(slot, text[:cut]) for slot, text in TEXTS.items()])
    rest = {slot: text[cut:] for slot, text in TEXTS.items() if len(text) > cut}
    second = dict(zip(rest, switch(bench, list(rest.items())), strict=True))
    for part, (slot, text) in zip(first, TEXTS.items(), strict=True):
        assert part + second.get(slot, []) == expected(text)


@pytest.mark.parametrize("n_kept", [0, 1, 2, 3])
def test_drafts_that_are_not_kept_were_never_there(team, n_kept):
    bench, text = Bench(team, STATE_FLOATS, STATE_FLOATS), TEXTS[3]
    bench.drafts = {3: 3}
    drafted = text[:6] + text[6 : 6 + n_kept] + [5, 1, 5][n_kept:]
    assert switch(bench, [(3, drafted)]) == [expected(drafted)]
    bench.drafts, bench.pending[3] = {}, n_kept
    assert switch(bench, [(3, text[6 + n_kept :])]) == [expected(text)[6 + n_kept :]]
