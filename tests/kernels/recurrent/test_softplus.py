"""log1p_unit and softplus against float64."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels import simd
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import fill, words
from slotmux.kernels.team import Program, make_team

MAP = words("Map", "x n out")


def build_map(name):
    """A kernel that applies a function of simd to n floats, a multiple of 16."""
    function = getattr(simd, name)

    def apply(op, step, thread):
        while claim(thread, 1) >= 0:
            for i in range(0, load_i64(op + MAP.n), 16):
                x = simd.load(load_i64(op + MAP.x) + 4 * i)
                simd.store(load_i64(op + MAP.out) + 4 * i, function(x))

    return apply


@pytest.fixture(scope="module")
def evaluate(kernel_cache_dir):
    team = make_team("auto", 1, kernel_cache_dir)

    def run(name, x):
        x = np.ascontiguousarray(x, np.float32)
        out = np.zeros_like(x)
        step = np.zeros(1, np.int64)
        address = team.kernels.address(f"test.map.{name}", lambda: build_map(name))
        operands = fill(MAP, x=x, n=len(x), out=out)
        team.run(Program(team, step, [(address, operands, -1)]))
        return out

    yield run
    team.close()


def ulps(found, exact):
    """Error in units of the last place of the exact value."""
    return np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


def test_log1p_unit_within_two_ulp(evaluate):
    x = np.concatenate([np.linspace(0, 1, 1 << 18), np.geomspace(1e-38, 1, 1 << 14)])
    x = x.astype(np.float32)
    error = ulps(evaluate("log1p_unit", x), np.log1p(x.astype(np.float64)))
    assert error.max() < 2.0


def test_softplus(evaluate):
    x = np.linspace(-86, 100, 1 << 18).astype(np.float32)
    exact = np.logaddexp(0.0, x.astype(np.float64))
    assert ulps(evaluate("softplus", x), exact).max() < 3.0
    large = np.array([21.0, 1e5, 3e38, np.inf] * 4, np.float32)
    assert np.array_equal(evaluate("softplus", large), large)
    tiny = evaluate("softplus", np.array([-200.0, -np.inf] * 8, np.float32))
    assert np.array_equal(tiny, np.zeros(16, np.float32))
    assert np.isnan(evaluate("softplus", np.full(16, np.nan, np.float32))).all()
