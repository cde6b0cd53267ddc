"""8-bit activations: one row, several, whole tiles, to the bit of their twin."""

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.operands import fill
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.harness import equal_tiles, float_rows, tile_rows
from tests.reference import linear as twin


def quantised(team, x):
    """Activation tiles of float32 rows."""
    (rows, stride), count = float_rows(x), np.array([len(x)])
    tiles = aligned_zeros(-(-len(x) // 8) * tile_bytes(x.shape[1]))
    operands = fill(QUANTIZE, x=rows, x_stride=stride, n=x.shape[1], n_rows=count, tiles=tiles)
    address = team.kernels.address("quantize", build_quantize)
    team.run(Program(team, np.zeros(1, np.int64), [(address, operands, -1)]))
    return tiles


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("n_rows", [1, 2, 3, 8, 9, 21])
def test_rows_are_quantised_as_the_twin_does(team_of, isa, n_rows):
    rng = np.random.default_rng(n_rows)
    n = 1120
    x = (rng.standard_normal((n_rows, n)) * 10.0 ** rng.integers(-8, 8, (n_rows, n))).astype("f4")
    x[0, :32], x[-1, 32:56] = 0.0, 1e-37  # nothing, and what is too small to have an inverse
    assert equal_tiles(quantised(team_of(isa, 3), x), twin.tiles(x).reshape(-1), n, n_rows)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_rows", [1, 5])
def test_what_is_no_number_spoils_its_own_half_of_a_block_alone(team_of, bad, n_rows):
    x = np.ones((n_rows, 96), np.float32)
    x[n_rows // 2, 40] = bad
    words = tile_rows(quantised(team_of(), x), 96, n_rows)
    scales = np.ascontiguousarray(words[:, :, 8:10]).view(np.float32)[..., 0]
    sums = np.ascontiguousarray(words[:, :, 10]).view(np.float32)[..., 0]
    spoiled = np.zeros((n_rows, 3, 2), bool)
    spoiled[n_rows // 2, 1, 0] = True
    assert np.array_equal(~np.isfinite(scales), spoiled)
    assert np.array_equal(np.isnan(sums), spoiled.any(axis=2))
    # An infinite scale times codes of zero is no number either.
    assert not words[n_rows // 2, 1, :4].any()
    assert words[n_rows // 2, 1, 4:8].all()
