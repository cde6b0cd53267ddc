"""The selective scan against its twin, and against itself cut in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.recurrent.mamba1 import (
    MAMBA1,
    build_mamba1,
    packed_a,
    pending_floats,
    state_floats,
)
from slotmux.kernels.team import aligned_zeros, make_team
from tests.kernels.recurrent.harness import Bench, aligned, cut, equal_tiles, float_rows
from tests.reference.mamba import mamba1

RUNS = [(3, 1), (0, 70), (5, 2), (1, 33)]


@pytest.fixture(scope="module", params=[1, 3])
def team(request, kernel_cache_dir):
    team = make_team("auto", request.param, kernel_cache_dir)
    yield team
    team.close()


class Scan:
    """One scan with random weights, and inputs x, dt, z, b, c for each slot."""

    def __init__(self, team, n, n_state) -> None:
        rng = np.random.default_rng(n + n_state)

        def normal(*shape):
            return rng.normal(size=shape).astype(np.float32)

        self.n, self.n_state = n, n_state
        self.bench = Bench(team, state_floats(n, n_state), pending_floats(n, n_state))
        self.a, self.d, self.dt_bias = -np.exp(normal(n, n_state)), normal(n), normal(n)
        widths = (n, n, n, n_state, n_state)
        self.inputs = {slot: [normal(80, width) for width in widths] for slot in range(8)}

    def run(self, parts, tiles=0):
        """Outputs of ``parts`` = [(slot, first, number)], [n_tokens, n]."""
        x, dt, z, b, c = (
            float_rows(np.concatenate([self.inputs[s][j][i : i + n] for s, i, n in parts]))
            for j in range(5)
        )
        n_tokens = sum(n for _, _, n in parts)
        out, out_stride = float_rows(np.full((n_tokens, self.n), np.nan, np.float32))
        self.bench.run(
            "mamba1",
            build_mamba1,
            MAMBA1,
            [(slot, n) for slot, _, n in parts],
            x=x[0],
            x_stride=x[1],
            dt=dt[0],
            dt_stride=dt[1],
            z=z[0],
            z_stride=z[1],
            b=b[0],
            c=c[0],
            bc_stride=b[1],
            a=aligned(packed_a(self.a)),
            d=aligned(self.d),
            dt_bias=aligned(self.dt_bias),
            n=self.n,
            n_state=self.n_state,
            out=out,
            out_stride=out_stride,
            tiles=tiles,
        )
        return out[: n_tokens * out_stride // 4].reshape(n_tokens, -1)[:, : self.n].copy()

    def expected(self, slot, first, n, state):
        """The twin's outputs and new state."""
        x, dt, z, b, c = (part[first : first + n] for part in self.inputs[slot])
        return mamba1(x, dt, z, b, c, self.a, self.d, self.dt_bias, state)

    def state(self, slot):
        """A slot's state in the pool, [n, n_state]."""
        packed = self.bench.state(slot).reshape(-1, self.n_state, 16)
        return packed.transpose(0, 2, 1).reshape(-1, self.n_state)[: self.n]


@pytest.mark.parametrize(("n", "n_state"), [(1, 1), (40, 8), (96, 16), (144, 35)])
def test_matches_twin_fresh_and_continued(team, n, n_state):
    scan = Scan(team, n, n_state)
    states = dict.fromkeys((slot for slot, _ in RUNS), None)
    for step in ([(slot, 0, n) for slot, n in RUNS], [(0, 70, 3), (3, 1, 2), (1, 33, 40)]):
        out, row = scan.run(step), 0
        for slot, first, length in step:
            expected, states[slot] = scan.expected(slot, first, length, states[slot])
            np.testing.assert_allclose(out[row : row + length], expected, rtol=1e-4, atol=3e-5)
            np.testing.assert_allclose(scan.state(slot), states[slot], rtol=1e-4, atol=1e-5)
            row += length


@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 37], [64]])
def test_pieces_equal_whole_bit_for_bit(team, sizes):
    whole, expected, row = Scan(team, 72, 17), {}, 0
    out = whole.run([(slot, 0, n) for slot, n in RUNS])
    for slot, n in RUNS:
        expected[slot] = out[row : row + n]
        row += n
    pieces = Scan(team, 72, 17)
    for step in cut(RUNS, sizes):
        out, row = pieces.run(step), 0
        for slot, first, n in step:
            assert np.array_equal(out[row : row + n], expected[slot][first : first + n])
            row += n
    for slot, _ in RUNS:
        assert np.array_equal(pieces.state(slot), whole.state(slot))


def test_tiles_are_those_of_its_own_floats(team):
    scan = Scan(team, 160, 16)
    tiles, expected = (aligned_zeros(6 * tile_bytes(160)) for _ in range(2))
    out, stride = float_rows(scan.run([(2, 0, 37), (6, 0, 4)], tiles))
    scan.bench.run(
        "quantize", build_quantize, QUANTIZE, [(2, 37), (6, 4)],
        x=out, x_stride=stride, n=160, tiles=expected,
    )  # fmt: skip
    assert equal_tiles(tiles, expected, 160, 41)
    assert tiles.any()


def test_decay_reaches_zero_and_keeps_nan_to_its_channel(team):
    scan = Scan(team, 32, 16)
    scan.a[:] = -1e30
    scan.inputs[0][1][:] = 50.0  # dt
    scan.inputs[0][0][1, 7] = np.nan
    out = scan.run([(0, 0, 5)])
    assert np.isnan(out[1:, 7]).all()
    rest = np.delete(np.arange(32), 7)
    expected, _ = scan.expected(0, 0, 5, None)
    np.testing.assert_allclose(out[:, rest], expected[:, rest], rtol=1e-4, atol=1e-4)
