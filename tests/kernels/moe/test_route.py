"""Choosing experts and sorting (token, rank) pairs by expert, against the twin."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.moe.route import (
    COUNT_WORDS,
    GROUP,
    GROUP_WORDS,
    ROUTE,
    build_group,
    build_route,
)
from slotmux.kernels.ops.moe.weigh import WEIGH, build_weigh
from tests.kernels.recurrent.harness import Bench, aligned, float_rows
from tests.reference.moe import route


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


def choose(
    team,
    logits,
    n_used,
    *,
    scores="softmax",
    bias=None,
    renormalise=True,
    scale=1.0,
    n_groups=1,
    n_groups_used=1,
    expert_scale=None,
):
    """The op's ids and weights, [T, n_used] each."""
    n, n_expert = logits.shape
    rows, stride = float_rows(logits)
    ids, weights = np.full((n, n_used), -1, np.int32), np.full((n, n_used), np.nan, np.float32)
    Bench(team, 0).run(
        f"route.{scores}",
        lambda: build_route(scores),
        ROUTE,
        [(0, n)],
        logits=rows,
        logits_stride=stride,
        n_expert=n_expert,
        bias=0 if bias is None else aligned(bias),
        n_groups=n_groups,
        n_groups_used=n_groups_used,
        expert_scale=0 if expert_scale is None else aligned(expert_scale),
        n_used=n_used,
        renormalise=int(renormalise),
        scale=aligned([scale]),
        ids=ids,
        weights=weights,
    )
    return ids, weights


@pytest.mark.parametrize(("n_expert", "n_used"), [(1, 1), (6, 6), (17, 3), (128, 8), (512, 10)])
@pytest.mark.parametrize("n_tokens", [1, 21])
@pytest.mark.parametrize(
    "options",
    [
        {"scores": "softmax"},
        {"scores": "softmax", "renormalise": False, "scale": 0.5},
        {"scores": "sigmoid", "has_bias": True, "scale": 2.5},
        {"scores": "chosen", "renormalise": False},
        {"scores": "sparsemixer", "renormalise": False},
        {"scores": "softmax", "has_expert_scale": True},
    ],
)
def test_route_matches_twin(team, n_expert, n_used, n_tokens, options):
    rng = np.random.default_rng(n_expert + n_tokens)
    logits = rng.normal(size=(n_tokens, n_expert)).astype(np.float32)
    options = dict(options)
    if options.pop("has_bias", False):
        options["bias"] = rng.normal(size=n_expert).astype(np.float32)
    if options.pop("has_expert_scale", False):
        options["expert_scale"] = rng.uniform(0.5, 2.0, n_expert).astype(np.float32)
    ids, weights = choose(team, logits, n_used, **options)
    expected_ids, expected = route(logits, n_used, **options)
    assert np.array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("n_expert", "n_groups", "n_groups_used", "n_used"),
    [(16, 8, 4, 8), (256, 8, 4, 8), (24, 4, 1, 6), (36, 3, 2, 5), (12, 6, 6, 3)],
)
def test_groups_that_are_not_the_best_are_not_chosen_from(
    team, n_expert, n_groups, n_groups_used, n_used
):
    rng = np.random.default_rng(n_expert)
    logits = rng.normal(size=(19, n_expert)).astype(np.float32)
    options = {
        "scores": "sigmoid",
        "bias": rng.normal(size=n_expert).astype(np.float32),
        "n_groups": n_groups,
        "n_groups_used": n_groups_used,
    }
    ids, weights = choose(team, logits, n_used, **options)
    expected_ids, expected = route(logits, n_used, **options)
    assert np.array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    groups = ids // (n_expert // n_groups)
    assert all(len(set(row.tolist())) <= n_groups_used for row in groups)


def test_bias_selects_but_does_not_weigh(team):
    bias = np.array([0.0, 0.0, 5.0, 0.0], np.float32)
    ids, weights = choose(
        team, np.zeros((1, 4), np.float32), 1, scores="sigmoid", bias=bias, renormalise=False
    )
    assert ids.tolist() == [[2]]
    assert weights.tolist() == [[0.5]]


def test_equal_scores_go_to_the_lower_expert(team):
    ids, weights = choose(team, np.zeros((2, 40), np.float32), 4)
    assert ids.tolist() == [[0, 1, 2, 3]] * 2
    np.testing.assert_allclose(weights, 0.25)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_nan_gets_valid_experts_and_nan_weights(team, scores):
    logits = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)
    clean = choose(team, logits, 5, scores=scores)
    logits[1] = np.nan
    ids, weights = choose(team, logits, 5, scores=scores)
    assert ((ids >= 0) & (ids < 24)).all()
    assert np.isnan(weights[1]).all()
    for row in (0, 2):
        assert np.array_equal(ids[row], clean[0][row])
        assert np.array_equal(weights[row], clean[1][row])


@pytest.mark.parametrize(("n_tokens", "n_expert", "n_used"), [(1, 7, 3), (50, 7, 3), (9, 64, 1)])
def test_groups_start_at_tiles_and_hold_every_pair_once(team, n_tokens, n_expert, n_used):
    rng = np.random.default_rng(n_tokens)
    ids = np.array([rng.permutation(n_expert)[:n_used] for _ in range(n_tokens)], np.int32)
    place = np.full(ids.shape, -1, np.int32)
    table = np.zeros((n_expert, GROUP_WORDS), np.int64)
    starts, counts = np.zeros(n_expert + 1, np.int64), np.zeros(COUNT_WORDS, np.int64)
    sources = np.full(8 * (n_tokens * n_used + n_expert), 99, np.int32)
    Bench(team, 0).run(
        "group",
        build_group,
        GROUP,
        [(0, n_tokens)],
        ids=ids,
        n_used=n_used,
        n_expert=n_expert,
        place=place,
        sources=sources,
        starts=starts,
        table=table,
        counts=counts,
    )
    n_active, n_tiles, n_padded = counts.tolist()
    assert n_padded == 8 * n_tiles
    used, n_rows = np.unique(ids, return_counts=True)
    assert np.array_equal(table[:n_active, 0], used)
    assert np.array_equal(table[:n_active, 2], n_rows)
    tiles = -(-n_rows // 8)
    assert n_tiles == tiles.sum()
    assert np.array_equal(table[:n_active, 1], 8 * (np.cumsum(tiles) - tiles))
    for expert, first, n in table[:n_active]:
        assert np.array_equal(place[ids == expert], np.arange(first, first + n))
        tokens, behind = sources[first : first + n], sources[first + n : first + -(-n // 8) * 8]
        assert np.array_equal(tokens, np.nonzero((ids == expert).any(axis=1))[0])
        assert (behind == -1).all()


def test_a_weight_goes_from_the_result_to_the_input(team):
    rng = np.random.default_rng(9)
    x, weights = rng.normal(size=(13, 37)).astype(np.float32), rng.uniform(size=13)
    (rows, stride), given = float_rows(x), weights.astype(np.float32)
    out = np.full_like(rows, np.nan)
    Bench(team, 0).run(
        "weigh", build_weigh, WEIGH, [(0, 13)], x=rows, x_stride=stride, n=37, weights=given,
        out=out, out_stride=stride,
    )  # fmt: skip
    got = out[: 13 * stride // 4].reshape(13, -1)[:, :37]
    np.testing.assert_array_equal(got, x * weights.astype(np.float32)[:, None])
    assert (given == 1.0).all()
