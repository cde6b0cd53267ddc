"""The exponential of softmax terms is that of all kernels, for numbers below zero."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels import simd
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import fill, words
from slotmux.kernels.ops.attention.softmax import exp_below_zero
from slotmux.kernels.team import Program
from tests.kernels.conftest import source_digest, usable_isas

BOTH = words("Both", "x n terms exps")


def build_both():
    def both(op, step, thread):
        while claim(thread, 1) >= 0:
            for i in range(0, 4 * load_i64(op + BOTH.n), 64):
                x = simd.load(load_i64(op + BOTH.x) + i)
                simd.store(load_i64(op + BOTH.terms) + i, exp_below_zero(x))
                simd.store(load_i64(op + BOTH.exps) + i, simd.exp(x))

    return both


@pytest.mark.parametrize("isa", usable_isas())
def test_terms_are_exponentials_to_the_bit(team_of, isa):
    """Down to -86.5; 0 below, and NaN stays NaN."""
    some = -np.abs(np.random.default_rng(0).normal(size=50_000)) * 30
    edges = [0, -0.0, -1e-45, -1e-30, -86.5, -86.50001, -87, -104, -1e30, -np.inf, np.nan, -1]
    x = np.concatenate([some, np.linspace(-88, 0, 49_988), edges, [-2] * 16])
    x = x[: len(x) // 16 * 16].astype(np.float32)
    terms, exps = np.zeros_like(x), np.zeros_like(x)
    team = team_of(isa)
    address = team.kernels.address(f"test.softmax.{source_digest(__file__)}", build_both)
    operands = fill(BOTH, x=x, n=len(x), terms=terms, exps=exps)
    team.run(Program(team, np.zeros(1, np.int64), [(address, operands, -1)]))
    expected = np.where(x < np.float32(-86.5), np.float32(0), exps)
    is_number = ~np.isnan(x)
    assert np.array_equal(terms[is_number].view(np.int32), expected[is_number].view(np.int32))
    assert np.isnan(terms[~is_number]).all()
    assert (~is_number).sum() == 1
