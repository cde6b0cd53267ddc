"""Token shift and the recurrences of RWKV-6 and 7 against their twins, and cut in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.recurrent.rwkv import pending_floats
from slotmux.kernels.ops.recurrent.rwkv6 import N_KEPT as N_KEPT6
from slotmux.kernels.ops.recurrent.rwkv6 import WKV6, build_wkv6
from slotmux.kernels.ops.recurrent.rwkv7 import N_KEPT as N_KEPT7
from slotmux.kernels.ops.recurrent.rwkv7 import WKV7, build_wkv7
from slotmux.kernels.ops.recurrent.token_shift import TOKEN_SHIFT, build_token_shift
from slotmux.kernels.team import aligned_zeros
from tests.kernels.recurrent.harness import Bench, aligned, cut, equal_tiles, float_rows
from tests.reference import rwkv as twins

RUNS = [(3, 1), (0, 17), (5, 2), (1, 7)]
EPS = 64e-5
# Heads, head size: the published one, and what vectors of 16 do not divide.
SHAPES = [(2, 64), (3, 16), (2, 20), (1, 5), (2, 96)]


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of(n_threads=request.param)


def gather(inputs, parts):
    """Rows of ``parts`` = [(slot, first, number)] one after the other."""
    return np.concatenate([inputs[slot][first : first + n] for slot, first, n in parts])


class Wkv:
    """One recurrence (version 6 or 7) with random vectors and inputs for each slot."""

    def __init__(self, team, version, n_heads, d) -> None:
        rng = np.random.default_rng(100 * n_heads + d)
        self.version, self.n_heads, self.d = version, n_heads, d
        self.width = -(-d // 16) * 16
        n_kept = N_KEPT6 if version == 6 else N_KEPT7
        self.bench = Bench(team, n_heads * d * self.width, pending_floats(n_kept, n_heads, d))
        self.names = "rkvwg" if version == 6 else "rkvwag"
        vectors = ("u", "ln_weight", "ln_bias")
        if version == 7:
            vectors = ("k_k", "k_a", "r_k", "ln_weight", "ln_bias")
        self.vectors = {name: rng.normal(size=(n_heads, d)).astype(np.float32) for name in vectors}
        self.inputs = {}
        for slot in range(8):
            rows = {n: rng.normal(size=(20, n_heads * d)).astype(np.float32) for n in self.names}
            for name in "wa":  # between 0 and 1
                if name in rows:
                    rows[name] = 1 / (1 + np.exp(-rows[name] - 1))
            self.inputs[slot] = rows

    def run(self, parts, tiles=0, floats=True):
        """Outputs of ``parts`` = [(slot, first, number)], [n_tokens, n]."""
        n_tokens, n = sum(part[2] for part in parts), self.n_heads * self.d
        operands = {}
        for name in self.names:
            rows = gather({s: v[name] for s, v in self.inputs.items()}, parts)
            operands[name], stride = float_rows(rows)
        out, out_stride = float_rows(np.full((n_tokens, n), np.nan, np.float32), padding=32)
        self.bench.run(
            f"wkv{self.version}",
            build_wkv6 if self.version == 6 else build_wkv7,
            WKV6 if self.version == 6 else WKV7,
            [(slot, n) for slot, _, n in parts],
            **operands,
            **{name: aligned(v) for name, v in self.vectors.items()},
            stride=stride,
            n_heads=self.n_heads,
            d=self.d,
            eps=aligned([EPS]),
            out=out if floats else 0,
            out_stride=out_stride,
            tiles=tiles,
        )
        rows = out[: n_tokens * out_stride // 4].reshape(n_tokens, -1)
        assert np.isnan(rows[:, n:]).all(), "written past the row's end"
        return rows[:, :n].copy()

    def expected(self, slot, first, n, state):
        """The twin's outputs and new state."""
        rows = {
            name: v[first : first + n].reshape(n, self.n_heads, self.d).astype(np.float64)
            for name, v in self.inputs[slot].items()
        }
        vectors = {k.removeprefix("ln_"): v.astype(np.float64) for k, v in self.vectors.items()}
        twin = twins.wkv6 if self.version == 6 else twins.wkv7
        y, state = twin(**rows, **vectors, eps=EPS, state=state)
        return y.reshape(n, -1), state

    def state(self, slot):
        """A slot's state in the pool, [n_heads, d, d]."""
        return self.bench.state(slot).reshape(self.n_heads, self.d, self.width)[:, :, : self.d]


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize(("n_heads", "d"), SHAPES)
def test_matches_twin_fresh_and_continued(team, version, n_heads, d):
    wkv = Wkv(team, version, n_heads, d)
    states = dict.fromkeys((slot for slot, _ in RUNS), None)
    for step in ([(slot, 0, n) for slot, n in RUNS], [(0, 17, 3), (3, 1, 2), (1, 7, 5)]):
        out, row = wkv.run(step), 0
        for slot, first, n in step:
            expected, states[slot] = wkv.expected(slot, first, n, states[slot])
            np.testing.assert_allclose(out[row : row + n], expected, rtol=2e-4, atol=2e-4)
            np.testing.assert_allclose(wkv.state(slot), states[slot], rtol=2e-5, atol=2e-5)
            row += n


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 3], [7]])
def test_pieces_equal_whole_bit_for_bit(team, version, sizes):
    whole, pieces = (Wkv(team, version, 2, 20) for _ in range(2))
    expected, row = {}, 0
    out = whole.run([(slot, 0, n) for slot, n in RUNS])
    for slot, n in RUNS:
        expected[slot] = out[row : row + n]
        row += n
    for step in cut(RUNS, sizes):
        out, row = pieces.run(step), 0
        for slot, first, n in step:
            assert np.array_equal(out[row : row + n], expected[slot][first : first + n])
            row += n
    for slot, _ in RUNS:
        assert np.array_equal(pieces.state(slot), whole.state(slot))


@pytest.mark.parametrize("version", [6, 7])
def test_tiles_are_those_of_its_own_floats(team, version):
    parts, n = [(2, 0, 11), (6, 0, 4)], 2 * 64
    tiles, expected = (aligned_zeros(2 * tile_bytes(n)) for _ in range(2))
    out, stride = float_rows(Wkv(team, version, 2, 64).run(parts))
    wkv = Wkv(team, version, 2, 64)
    assert np.isnan(wkv.run(parts, tiles, floats=False)).all()
    wkv.bench.run(
        "quantize", build_quantize, QUANTIZE, [(2, 11), (6, 4)],
        x=out, x_stride=stride, n=n, tiles=expected,
    )  # fmt: skip
    assert tiles.any()
    assert equal_tiles(tiles, expected, n, 15)


@pytest.mark.parametrize("n", [1, 40, 600])
@pytest.mark.parametrize("sizes", [[20], [1], [3, 5]])
def test_token_shift(team, n, sizes):
    rng = np.random.default_rng(n)
    bench = Bench(team, n)
    inputs = {slot: rng.normal(size=(20, n)).astype(np.float32) for slot in range(8)}
    for step in cut(RUNS, sizes):
        x, stride = float_rows(gather(inputs, step))
        out, out_stride = float_rows(np.full((x.size * 4 // stride, n), np.nan, np.float32))
        bench.run(
            "token_shift", lambda: build_token_shift(True), TOKEN_SHIFT,
            [(slot, k) for slot, _, k in step],
            x=x, x_stride=stride, n=n, out=out, out_stride=out_stride,
        )  # fmt: skip
        row = 0
        for slot, first, k in step:
            last = inputs[slot][first - 1] if first else None
            expected, last = twins.token_shift(inputs[slot][first : first + k], last)
            rows = out[row * out_stride // 4 :].reshape(-1)[: k * out_stride // 4]
            assert np.array_equal(rows.reshape(k, -1)[:, :n], expected.astype(np.float32))
            assert np.array_equal(bench.state(slot), last)
            row += k
