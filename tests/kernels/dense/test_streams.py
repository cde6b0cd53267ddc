"""The ops of Gemma 3n and 4 that are about a token alone, against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.dense.altup import (
    ALTUP_CORRECT,
    ALTUP_PREDICT,
    GAUSSIAN_TOPK,
    MATCH,
    build_altup_correct,
    build_altup_predict,
    build_gaussian_topk,
    build_match,
)
from slotmux.kernels.ops.dense.group_norm import GROUP_NORM, build_group_norm
from tests.kernels.recurrent.harness import Bench, aligned, float_rows

N_TOKENS, N_STREAMS, N = 13, 4, 48


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def taken(memory, stride, n):
    """The first ``n`` columns of the tokens' rows."""
    return memory[: N_TOKENS * stride // 4].reshape(N_TOKENS, -1)[:, :n]


def test_streams_are_predicted_from_all(team):
    x, coef = normal(1, N_TOKENS, N_STREAMS * N), normal(2, N_TOKENS, N_STREAMS**2)
    rows, stride = float_rows(x)
    mix, mix_stride = float_rows(coef)
    out = np.full_like(rows, np.nan)
    Bench(team, 0).run(
        "altup_predict", build_altup_predict, ALTUP_PREDICT, [(0, N_TOKENS)], x=rows,
        x_stride=stride, n_streams=N_STREAMS, n=N, coef=mix, coef_stride=mix_stride, out=out,
        out_stride=stride,
    )  # fmt: skip
    streams = x.reshape(N_TOKENS, N_STREAMS, N).astype(np.float64)
    matrix = coef.reshape(N_TOKENS, N_STREAMS, N_STREAMS)
    want = streams + np.einsum("tba,tan->tbn", matrix, streams)
    got = taken(out, stride, N_STREAMS * N)
    np.testing.assert_allclose(got, want.reshape(N_TOKENS, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("active", [0, 2])
def test_streams_are_corrected_by_the_active_one(team, active):
    x, y, coef = normal(1, N_TOKENS, N_STREAMS * N), normal(2, N_TOKENS, N), normal(3, N_TOKENS, 4)
    (rows, stride), (after, y_stride), (mix, mix_stride) = map(float_rows, (x, y, coef))
    Bench(team, 0).run(
        "altup_correct", build_altup_correct, ALTUP_CORRECT, [(0, N_TOKENS)], x=rows,
        x_stride=stride, n_streams=N_STREAMS, n=N, y=after, y_stride=y_stride, active=active,
        coef=mix, coef_stride=mix_stride,
    )  # fmt: skip
    streams = x.reshape(N_TOKENS, N_STREAMS, N).astype(np.float64)
    off = (y - streams[:, active])[:, None]
    want = streams + off * (1.0 + coef[:, :, None])
    got = taken(rows, stride, N_STREAMS * N)
    np.testing.assert_allclose(got, want.reshape(N_TOKENS, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [48, 37])
def test_rows_get_the_magnitude_of_others(team, n):
    x, y = normal(1, N_TOKENS, n), normal(2, N_TOKENS, n)
    x[3] = 0.0  # divided by no zero
    (rows, stride), (other, y_stride) = map(float_rows, (x, y))
    Bench(team, 0).run(
        "match_magnitude", build_match, MATCH, [(0, N_TOKENS)], x=rows, x_stride=stride, y=other,
        y_stride=y_stride, n=n,
    )  # fmt: skip
    squares = np.maximum((x.astype(np.float64) ** 2).mean(1), 1e-5)
    factor = np.sqrt((y.astype(np.float64) ** 2).mean(1) / squares)
    np.testing.assert_allclose(taken(rows, stride, n), x * factor[:, None], rtol=1e-5)


@pytest.mark.parametrize("n", [64, 37])
def test_gates_below_their_rows_cutoff_are_off(team, n):
    x, factor = normal(4, N_TOKENS, n), 1.2
    rows, stride = float_rows(x)
    Bench(team, 0).run(
        "gaussian_topk", build_gaussian_topk, GAUSSIAN_TOPK, [(0, N_TOKENS)], x=rows,
        x_stride=stride, n=n, factor=aligned([factor]),
    )  # fmt: skip
    exact = x.astype(np.float64)
    cutoff = exact.mean(1, keepdims=True) + factor * exact.std(1, keepdims=True)
    got, want = taken(rows, stride, n), np.maximum(exact - cutoff, 0.0)
    assert (want == 0).any()
    assert (want > 0).any()
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_groups_of_columns_are_normed_by_themselves(team):
    n_groups, width, eps = 3, 32, 1e-3
    x, there = normal(5, N_TOKENS, n_groups * width), normal(6, N_TOKENS, n_groups * width)
    weight = normal(7, width)
    (rows, stride), (out, out_stride) = map(float_rows, (x, there))
    Bench(team, 0).run(
        "group_norm", build_group_norm, GROUP_NORM, [(0, N_TOKENS)], x=rows, x_stride=stride,
        n_groups=n_groups, width=width, weight=aligned(weight), eps=aligned([eps]), out=out,
        out_stride=out_stride,
    )  # fmt: skip
    groups = x.reshape(N_TOKENS, n_groups, width).astype(np.float64)
    normed = groups / np.sqrt((groups**2).mean(2, keepdims=True) + eps) * weight
    want = there + normed.reshape(N_TOKENS, -1)
    np.testing.assert_allclose(taken(out, out_stride, n_groups * width), want, rtol=1e-5, atol=1e-5)
