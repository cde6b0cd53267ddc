"""The short convolution against its twin, and against itself cut in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.recurrent.conv import (
    CONV,
    build_conv,
    padded_channels,
    pending_floats,
    state_floats,
)
from slotmux.kernels.team import aligned_zeros, make_team
from tests.kernels.recurrent.harness import Bench, aligned, cut, equal_tiles, float_rows
from tests.reference.conv import short_conv

RUNS = [(3, 1), (0, 17), (5, 2), (1, 7)]


@pytest.fixture(scope="module", params=[1, 3])
def team(request, kernel_cache_dir):
    team = make_team("auto", request.param, kernel_cache_dir)
    yield team
    team.close()


class Conv:
    """One convolution with random weights and inputs for each slot."""

    def __init__(self, team, n, n_taps, *, silu, bias, products) -> None:
        rng = np.random.default_rng(n * 100 + n_taps)
        self.n, self.n_taps, self.silu, self.products = n, n_taps, silu, products
        self.bench = Bench(team, state_floats(n_taps, n), pending_floats(n))
        self.weight = rng.normal(size=(n_taps, n)).astype(np.float32)
        self.bias = rng.normal(size=n).astype(np.float32) if bias else None
        self.inputs = {
            slot: [rng.normal(size=(20, n)).astype(np.float32) for _ in range(3)]
            for slot in range(8)
        }

    def run(self, parts, tiles=0):
        """Outputs of ``parts`` = [(slot, first, number)], [n_tokens, n]."""
        columns = [
            np.concatenate([self.inputs[s][j][first : first + n] for s, first, n in parts])
            for j in range(3)
        ]
        (x, x_stride), (f, f_stride), (g, g_stride) = map(float_rows, columns)
        padded = np.zeros((self.n_taps, padded_channels(self.n)), np.float32)
        padded[:, : self.n] = self.weight
        n_tokens = len(columns[0])
        out, out_stride = float_rows(np.full((n_tokens, self.n), np.nan, np.float32))
        self.bench.run(
            f"conv.{self.n_taps}.{'silu' if self.silu else 'plain'}",
            lambda: build_conv(self.n_taps, self.silu),
            CONV,
            [(slot, n) for slot, _, n in parts],
            x=x,
            x_stride=x_stride,
            factor=f if self.products else 0,
            factor_stride=f_stride,
            gate=g if self.products else 0,
            gate_stride=g_stride,
            weight=aligned(padded),
            bias=0 if self.bias is None else aligned(self.bias),
            n=self.n,
            out=out,
            out_stride=out_stride,
            tiles=tiles,
        )
        return out[: n_tokens * out_stride // 4].reshape(n_tokens, -1)[:, : self.n].copy()

    def expected(self, slot, first, n, window=None):
        """The twin's outputs and new window."""
        x, f, g = (part[first : first + n] for part in self.inputs[slot])
        products = {"factor": f, "gate": g} if self.products else {}
        return short_conv(x, self.weight, self.bias, silu=self.silu, window=window, **products)

    def window(self, slot):
        """A slot's window in the pool."""
        return self.bench.state(slot).reshape(self.n_taps - 1, -1)[:, : self.n]


@pytest.mark.parametrize(
    ("n", "n_taps", "silu", "bias", "products"),
    [
        (1, 2, False, True, False),
        (40, 3, False, False, True),
        (150, 4, True, True, False),
        (272, 8, True, False, True),
    ],
)
def test_matches_twin_fresh_and_continued(team, n, n_taps, silu, bias, products):
    conv = Conv(team, n, n_taps, silu=silu, bias=bias, products=products)
    parts = [(slot, 0, length) for slot, length in RUNS]
    windows = dict.fromkeys((slot for slot, _ in RUNS), None)
    for step in (parts, [(0, 17, 3), (3, 1, 2), (1, 7, 5)]):
        out, row = conv.run(step), 0
        for slot, first, length in step:
            expected, windows[slot] = conv.expected(slot, first, length, windows[slot])
            np.testing.assert_allclose(out[row : row + length], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(conv.window(slot), windows[slot], rtol=1e-6, atol=1e-6)
            row += length


@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 3], [7]])
def test_pieces_equal_whole_bit_for_bit(team, sizes):
    arguments = {"silu": True, "bias": True, "products": True}
    whole = Conv(team, 72, 4, **arguments)
    expected, row = {}, 0
    out = whole.run([(slot, 0, n) for slot, n in RUNS])
    for slot, n in RUNS:
        expected[slot] = out[row : row + n]
        row += n
    pieces = Conv(team, 72, 4, **arguments)
    for step in cut(RUNS, sizes):
        out, row = pieces.run(step), 0
        for slot, first, n in step:
            assert np.array_equal(out[row : row + n], expected[slot][first : first + n])
            row += n
    for slot, _ in RUNS:
        assert np.array_equal(pieces.window(slot), whole.window(slot))


def test_tiles_are_those_of_its_own_floats(team):
    conv = Conv(team, 160, 3, silu=False, bias=False, products=True)
    parts = [(2, 0, 11), (6, 0, 4)]
    tiles, expected = (aligned_zeros(2 * tile_bytes(160)) for _ in range(2))
    out, stride = float_rows(conv.run(parts, tiles))
    conv.bench.run(
        "quantize", build_quantize, QUANTIZE, [(2, 11), (6, 4)],
        x=out, x_stride=stride, n=160, tiles=expected,
    )  # fmt: skip
    assert equal_tiles(tiles, expected, 160, 15)
    assert tiles.any()
