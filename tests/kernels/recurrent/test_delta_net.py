"""Gated DeltaNet against its twin, and against itself cut in pieces; its gated norm."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.recurrent.delta_net import (
    DELTA,
    SEGMENT,
    block_vectors,
    build_delta_net,
    pending_floats,
)
from slotmux.kernels.ops.recurrent.gated_norm import GATED_NORM, build_gated_norm
from slotmux.kernels.team import aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.harness import Bench, aligned, cut, equal_tiles, float_rows
from tests.reference.delta_net import delta_net, gated_norm

EPS = 1e-6
RUNS = [(3, 1), (0, 17), (5, 2), (1, 7)]
N_TOKENS = 24


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


class Layer:
    """One layer with random weights and inputs for each slot."""

    def __init__(self, team, d, k_heads, n_tokens=N_TOKENS, seed=0) -> None:
        rng = np.random.default_rng(seed)
        self.d, self.k_heads = d, np.array(k_heads, np.int32)
        self.n_k, self.n_v = int(max(k_heads)) + 1, len(k_heads)
        self.bench = Bench(team, self.n_v * d * d, pending_floats(self.n_v, d))
        self.a = -rng.uniform(0.05, 2.0, self.n_v).astype(np.float32)
        self.dt_bias = rng.normal(size=self.n_v).astype(np.float32)
        widths = (self.n_k * d, self.n_k * d, self.n_v * d, self.n_v, self.n_v)
        self.inputs = {
            slot: [rng.normal(size=(n_tokens, w)).astype(np.float32) for w in widths]
            for slot in range(8)
        }

    def run(self, parts):
        """Outputs of ``parts`` = [(slot, first, number)], [n_tokens, n_heads * d]."""
        q, k, v, alpha, b = (
            np.concatenate([self.inputs[s][j][first : first + n] for s, first, n in parts])
            for j in range(5)
        )
        qkv, stride = float_rows(np.concatenate([q, k, v], 1))
        gates, gate_stride = float_rows(np.concatenate([alpha, b], 1))
        out, out_stride = float_rows(np.full_like(v, np.nan))
        n_vectors = block_vectors(self.d)
        self.bench.run(
            f"delta_net.{n_vectors}",
            lambda: build_delta_net(n_vectors),
            DELTA,
            [(slot, n) for slot, _, n in parts],
            q=qkv,
            k=qkv.ctypes.data + 4 * q.shape[1],
            v=qkv.ctypes.data + 8 * q.shape[1],
            stride=stride,
            alpha=gates,
            b=gates.ctypes.data + 4 * self.n_v,
            gate_stride=gate_stride,
            a=aligned(self.a),
            dt_bias=aligned(self.dt_bias),
            k_heads=self.k_heads,
            n_heads=self.n_v,
            d=self.d,
            eps=aligned([EPS]),
            out=out,
            out_stride=out_stride,
        )
        rows = out[: len(v) * out_stride // 4].reshape(len(v), -1)
        assert np.isnan(rows[:, v.shape[1] :]).all()
        return rows[:, : v.shape[1]].copy()

    def expected(self, slot, first, n, state):
        """The twin's outputs, flat, and its new state."""
        q, k, v, alpha, b = (x[first : first + n] for x in self.inputs[slot])
        heads = (x.reshape(n, -1, self.d) for x in (q, k, v))
        out, state = delta_net(*heads, alpha, b, self.a, self.dt_bias, self.k_heads, EPS, state)
        return out.reshape(n, -1), state

    def state(self, slot):
        """A slot's state as [n_heads, d_k, d_v]."""
        width = 16 * block_vectors(self.d)
        blocks = self.bench.state(slot).reshape(self.n_v, -1, self.d, width)
        return blocks.transpose(0, 2, 1, 3).reshape(self.n_v, self.d, self.d)


@pytest.mark.parametrize(
    ("d", "k_heads"),
    [
        (16, [0]),
        (48, [0, 1, 2, 0, 1, 2]),  # qwen35's order
        (64, [0, 0, 1, 1]),  # qwen3next's order
        (128, [0, 0, 0]),
    ],
)
def test_matches_twin_fresh_and_continued(team, d, k_heads):
    layer = Layer(team, d, k_heads)
    states = dict.fromkeys((slot for slot, _ in RUNS), None)
    for step in ([(slot, 0, n) for slot, n in RUNS], [(0, 17, 3), (3, 1, 2), (1, 7, 5)]):
        out, row = layer.run(step), 0
        for slot, first, n in step:
            expected, states[slot] = layer.expected(slot, first, n, states[slot])
            np.testing.assert_allclose(out[row : row + n], expected, rtol=2e-4, atol=2e-6)
            np.testing.assert_allclose(layer.state(slot), states[slot], rtol=2e-4, atol=2e-6)
            row += n


@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 3], [7]])
def test_pieces_equal_whole_bit_for_bit(team, sizes):
    whole = Layer(team, 32, [0, 1, 0, 1])
    out, expected, row = whole.run([(slot, 0, n) for slot, n in RUNS]), {}, 0
    for slot, n in RUNS:
        expected[slot] = out[row : row + n]
        row += n
    pieces = Layer(team, 32, [0, 1, 0, 1])
    for step in cut(RUNS, sizes):
        out, row = pieces.run(step), 0
        for slot, first, n in step:
            assert np.array_equal(out[row : row + n], expected[slot][first : first + n])
            row += n
    for slot, _ in RUNS:
        assert np.array_equal(pieces.state(slot), whole.state(slot))


def test_segments_and_threads_do_not_matter(team_of):
    n = 2 * SEGMENT + 3
    results = []
    # One head on 3 threads is cut into blocks of columns, three sequences are not.
    for n_threads, runs in ((1, [(0, 0, n)]), (3, [(0, 0, n)]), (3, [(0, 0, 5), (1, 0, 9)])):
        layer = Layer(team_of("auto", n_threads), 64, [0], n)
        out = layer.run(runs)
        if len(runs) > 1:
            out = np.concatenate([out[:5], layer.run([(0, 5, n - 5)])])
        results.append((out, layer.state(0)))
        assert np.isfinite(out).all()
    for out, state in results[1:]:
        assert np.array_equal(out, results[0][0])
        assert np.array_equal(state, results[0][1])


def test_same_bits_on_every_instruction_set(team_of):
    first, *others = (
        Layer(team_of(isa), 64, [0, 1, 0]).run([(3, 0, 1), (0, 0, 17)]) for isa in usable_isas()
    )
    assert others
    assert np.isfinite(first).all()
    for other in others:
        assert np.array_equal(first, other)


def test_one_sequence_of_nan_does_not_reach_another(team):
    layer, clean = Layer(team, 16, [0, 0]), Layer(team, 16, [0, 0])
    for part in layer.inputs[2]:
        part[:] = np.nan
    out = layer.run([(2, 0, 3), (4, 0, 5)])
    assert np.isnan(out[:3]).all()
    assert np.array_equal(out[3:], clean.run([(4, 0, 5)]))


def norm_rows(team, x, z, weight, n_heads, *, floats, tiles):
    """The op's outputs as floats (or None) for rows x and z."""
    (x_rows, x_stride), (z_rows, z_stride) = float_rows(x), float_rows(z)
    out, out_stride = float_rows(np.full_like(x, np.nan))
    Bench(team, 0).run(
        "gated_norm",
        build_gated_norm,
        GATED_NORM,
        [(0, len(x))],
        x=x_rows,
        x_stride=x_stride,
        z=z_rows,
        z_stride=z_stride,
        weight=aligned(weight),
        eps=aligned([1e-3]),
        n_heads=n_heads,
        d=len(weight),
        out=out if floats else 0,
        out_stride=out_stride,
        tiles=tiles,
    )
    return out[: len(x) * out_stride // 4].reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize(("n_heads", "d"), [(1, 16), (6, 16), (7, 48), (16, 128), (2, 1024)])
@pytest.mark.parametrize("n_tokens", [1, 19])
def test_gated_norm(team, n_heads, d, n_tokens):
    rng = np.random.default_rng(d)
    x, z = (rng.normal(size=(n_tokens, n_heads * d)).astype(np.float32) for _ in range(2))
    weight = rng.normal(size=d).astype(np.float32)
    n_bytes = -(-n_tokens // 8) * tile_bytes(n_heads * d)
    tiles, alone, expected_tiles = (aligned_zeros(n_bytes) for _ in range(3))
    quantisable = n_heads * d % 32 == 0
    found = norm_rows(team, x, z, weight, n_heads, floats=True, tiles=tiles if quantisable else 0)
    shape = (n_tokens, n_heads, d)
    expected = gated_norm(x.reshape(shape), z.reshape(shape), weight, 1e-3).reshape(x.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if not quantisable:
        return
    norm_rows(team, x, z, weight, n_heads, floats=False, tiles=alone)
    rows, stride = float_rows(found)
    Bench(team, 0).run(
        "quantize", build_quantize, QUANTIZE, [(0, n_tokens)],
        x=rows, x_stride=stride, n=n_heads * d, tiles=expected_tiles,
    )  # fmt: skip
    assert expected_tiles.any()
    assert equal_tiles(tiles, expected_tiles, n_heads * d, n_tokens)
    assert equal_tiles(alone, expected_tiles, n_heads * d, n_tokens)
