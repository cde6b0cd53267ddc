"""Elementwise ops and layer norm against their twins, at odd sizes and in place."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.dense.elementwise import ELEMENTWISE, FORMULAS, build_elementwise
from slotmux.kernels.ops.dense.layer_norm import LAYER_NORM, build_layer_norm
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.recurrent.harness import aligned, equal_tiles, float_rows
from tests.reference import elementwise as twins
from tests.reference.norms import layer_norm

SIZES = [(1, 1), (3, 20), (2, 40), (9, 1100)]


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of(n_threads=request.param)


def run(team, name, build, layout, n_rows, **operands):
    """One op over n_rows rows."""
    step = np.zeros(len(STEP._fields), np.int64)
    step[0] = n_rows
    address = team.kernels.address(name, build)
    team.run(Program(team, step, [(address, fill(layout, n_rows=step, **operands), -1)]))


def run_formula(team, formula, inputs, v, c, *, in_place=False, tiles=0):
    """The op's rows; with ``in_place`` they overwrite x."""
    n_rows, n = inputs[0].shape
    (x, x_stride), (y, y_stride), (z, z_stride) = (float_rows(part) for part in inputs)
    out, out_stride = float_rows(np.full((n_rows, n), np.nan, np.float32), padding=32)
    if in_place:
        out, out_stride = x, x_stride
    run(
        team, f"elementwise.{formula}", lambda: build_elementwise(formula), ELEMENTWISE, n_rows,
        x=x, x_stride=x_stride, y=y, y_stride=y_stride, z=z, z_stride=z_stride, v=aligned(v),
        scalar=aligned([c]), n=n, out=out, out_stride=out_stride, tiles=tiles,
    )  # fmt: skip
    return out[: n_rows * out_stride // 4].reshape(n_rows, -1)[:, :n]


@pytest.mark.parametrize("formula", sorted(FORMULAS))
def test_formula_matches_twin(team, formula):
    assert set(FORMULAS) == set(twins.FORMULAS)
    rng = np.random.default_rng(len(formula))
    for n_rows, n in SIZES:
        inputs = [rng.normal(size=(n_rows, n)).astype(np.float32) * 3 for _ in range(3)]
        v, c = rng.normal(size=n).astype(np.float32), np.float32(-0.6)
        expected = twins.FORMULAS[formula](*(part.astype(np.float64) for part in inputs), v, c)
        got = run_formula(team, formula, inputs, v, c)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)
        assert np.array_equal(run_formula(team, formula, inputs, v, c, in_place=True), got)


def test_inputs_that_a_formula_does_not_use_may_be_absent(team):
    x, stride = float_rows(np.array([[1.0, -2.0, 3.0]], np.float32))
    run(
        team, "elementwise.scale", lambda: build_elementwise("scale"), ELEMENTWISE, 1,
        x=x, x_stride=stride, y=0, y_stride=0, z=0, z_stride=0, v=0, scalar=aligned([0.5]), n=3,
        out=x, out_stride=stride, tiles=0,
    )  # fmt: skip
    assert x[:3].tolist() == [0.5, -1.0, 1.5]


def test_extremes(team):
    x = np.array([[-1e30, -200.0, -1e-6, 0.0, 1e-6, 0.6249, 0.6251, 200.0, np.nan]], np.float32)
    zeros = np.zeros_like(x)
    with np.errstate(over="ignore"):
        for formula in ("tanh", "sigmoid", "decay"):
            got = run_formula(team, formula, [x, zeros, zeros], zeros[0], 1.0)
            expected = twins.FORMULAS[formula](x.astype(np.float64), 0, 0, 0, 1)
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-37, err_msg=formula)


def test_elementwise_tiles_are_those_of_its_own_floats(team):
    n_rows, n = 9, 1120
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n_rows, n)).astype(np.float32) for _ in range(3)]
    tiles, expected = (aligned_zeros(2 * tile_bytes(n)) for _ in range(2))
    out, stride = float_rows(run_formula(team, "lerp", inputs, inputs[0][0], 1.0, tiles=tiles))
    run(
        team, "quantize", build_quantize, QUANTIZE, n_rows,
        x=out, x_stride=stride, n=n, tiles=expected,
    )  # fmt: skip
    assert tiles.any()
    assert equal_tiles(tiles, expected, n, n_rows)


def run_layer_norm(team, x, weight, bias, eps, *, index=None, tiles=0):
    """Normed rows of x, or of x[index]."""
    n = x.shape[1]
    n_rows = len(x) if index is None else len(index)
    rows, stride = float_rows(x)
    out, out_stride = float_rows(np.full((n_rows, n), np.nan, np.float32))
    run(
        team, "layer_norm", build_layer_norm, LAYER_NORM, n_rows,
        x=rows, x_stride=stride, index=0 if index is None else index, n=n, weight=aligned(weight),
        bias=0 if bias is None else aligned(bias), eps=aligned([eps]),
        out=out, out_stride=out_stride, tiles=tiles,
    )  # fmt: skip
    return out[: n_rows * out_stride // 4].reshape(n_rows, -1)[:, :n]


@pytest.mark.parametrize(("n_rows", "n"), [(1, 1), (3, 5), (2, 40), (45, 300)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_layer_norm_matches_twin(team, n_rows, n, has_bias):
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(n_rows, n)) * 2 + 5).astype(np.float32)
    weight, bias = rng.normal(size=(2, n)).astype(np.float32)
    got = run_layer_norm(team, x, weight, bias if has_bias else None, 1e-3)
    expected = layer_norm(x, weight, bias if has_bias else 0.0, 1e-3)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


def test_layer_norm_of_chosen_rows_and_as_tiles(team):
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(40, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    index = np.array([39, 0, 7], np.int32)
    got = run_layer_norm(team, x, weight, None, 1e-5, index=index)
    assert np.array_equal(got, run_layer_norm(team, x, weight, None, 1e-5)[index])
    tiles, expected = (aligned_zeros(tile_bytes(64)) for _ in range(2))
    run_layer_norm(team, x, weight, None, 1e-5, index=index, tiles=tiles)
    rows, stride = float_rows(got)
    run(
        team, "quantize", build_quantize, QUANTIZE, 3, x=rows, x_stride=stride, n=64, tiles=expected
    )
    assert tiles.any()
    assert equal_tiles(tiles, expected, 64, 3)
