"""Mamba-2's gate and norm against their twin."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.recurrent.mamba2 import GATE_THEN_NORM, build_gate_then_norm
from tests.kernels.recurrent.harness import Bench, aligned, float_rows
from tests.kernels.recurrent.ops.base import outputs
from tests.reference.mamba import gated_norm


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


@pytest.mark.parametrize(("n", "n_group"), [(96, 2), (100, 5), (1, 1), (320, 1)])
@pytest.mark.parametrize("has_norm", [True, False])
def test_gated_norm(team, n, n_group, has_norm):
    rng = np.random.default_rng(n)
    bench, n_rows, eps = Bench(team, 1), 9, 1e-3
    y, z = (rng.normal(size=(n_rows, n)).astype(np.float32) for _ in range(2))
    weight = rng.normal(size=n).astype(np.float32) if has_norm else None
    (y_rows, y_stride), (z_rows, z_stride) = float_rows(y), float_rows(z)
    out, out_stride = float_rows(np.full((n_rows, n), np.nan, np.float32))
    operands = {
        "y": y_rows, "y_stride": y_stride, "z": z_rows, "z_stride": z_stride, "n": n,
        "n_group": n_group, "weight": aligned(weight) if has_norm else 0,
        "eps": aligned([eps]), "out_stride": out_stride,
    }  # fmt: skip
    run = ("mamba2_gate", build_gate_then_norm, GATE_THEN_NORM, [(0, n_rows)])
    bench.run(*run, **operands, out=out)
    found = outputs(out, out_stride, n_rows, n, lanes=16)
    want = gated_norm(y, z, weight, n_group, eps)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
