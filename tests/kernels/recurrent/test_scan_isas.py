"""Convolution and scans give the same bits on every instruction set of this CPU."""

from __future__ import annotations

import numpy as np

from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent import test_conv, test_mamba1, test_mamba2

RUNS = [(3, 0, 1), (0, 0, 40), (5, 0, 2)]


def assert_same_everywhere(team_of, run):
    """``run(team)`` for every instruction set against the first."""
    first, *others = (run(team_of(isa)) for isa in usable_isas())
    assert others
    assert np.isfinite(first).all()
    for other in others:
        assert np.array_equal(first, other)


def test_conv_same_bits(team_of):
    def run(team):
        conv = test_conv.Conv(team, 72, 4, silu=True, bias=True, products=True)
        return conv.run([(3, 0, 1), (0, 0, 17), (5, 0, 2)])

    assert_same_everywhere(team_of, run)


def test_mamba1_same_bits(team_of):
    assert_same_everywhere(team_of, lambda team: test_mamba1.Scan(team, 72, 17).run(RUNS))


def test_mamba2_same_bits(team_of):
    assert_same_everywhere(team_of, lambda team: test_mamba2.Scan(team, 6, 24, 2, 19).run(RUNS))
