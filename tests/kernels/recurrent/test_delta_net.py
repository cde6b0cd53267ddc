"""Gated DeltaNet over several segments, and its gated norm."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.recurrent.delta_rule import SEGMENT
from slotmux.kernels.ops.recurrent.gated_norm import GATED_NORM, build_gated_norm
from slotmux.kernels.team import aligned_zeros
from tests.kernels.recurrent.harness import Bench, aligned, equal_tiles, float_rows
from tests.kernels.recurrent.ops.delta_net import DeltaNet
from tests.reference.delta_net import gated_norm


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


def test_segments_and_threads_do_not_matter(team_of):
    n = 2 * SEGMENT + 3
    results = []
    # One head on 3 threads is cut into blocks of columns, three sequences are not.
    for n_threads, runs in ((1, [(0, 0, n)]), (3, [(0, 0, n)]), (3, [(0, 0, 5), (1, 0, 9)])):
        layer = DeltaNet(team_of("auto", n_threads), n, 64, [0])
        out = layer.run(runs)
        if len(runs) > 1:
            out = np.concatenate([out[:5], layer.run([(0, 5, n - 5)])])
        results.append((out, layer.state(0)))
        assert np.isfinite(out).all()
    for out, state in results[1:]:
        assert np.array_equal(out, results[0][0])
        assert np.array_equal(state, results[0][1])


def test_a_long_run_after_drafts(team_of):
    """More pending and own tokens than one pass takes."""
    n = SEGMENT + 20
    expected = DeltaNet(team_of("auto", 1), n, 64, [0]).run([(0, 0, n)])
    layer = DeltaNet(team_of("auto", 1), n, 64, [0])
    out = [layer.run([(0, 0, 1)])]
    layer.bench.drafts = {0: 3}
    out.append(layer.run([(0, 1, 4)]))
    layer.bench.drafts, layer.bench.pending[0] = {}, 3
    out.append(layer.run([(0, 5, n - 5)]))
    assert np.array_equal(np.concatenate(out), expected)


def norm_rows(team, x, z, weight, n_heads, activation, *, floats, tiles):
    """The op's outputs as floats (or None) for rows x and z."""
    (x_rows, x_stride), (z_rows, z_stride) = float_rows(x), float_rows(z)
    out, out_stride = float_rows(np.full_like(x, np.nan))
    Bench(team, 0).run(
        f"gated_norm.{activation}",
        lambda: build_gated_norm(activation),
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
@pytest.mark.parametrize("activation", ["silu", "sigmoid"])
def test_gated_norm(team, n_heads, d, n_tokens, activation):
    rng = np.random.default_rng(d)
    x, z = (rng.normal(size=(n_tokens, n_heads * d)).astype(np.float32) for _ in range(2))
    weight = rng.normal(size=d).astype(np.float32)
    n_bytes = -(-n_tokens // 8) * tile_bytes(n_heads * d)
    tiles, alone, expected_tiles = (aligned_zeros(n_bytes) for _ in range(3))
    quantisable = n_heads * d % 32 == 0
    found = norm_rows(
        team, x, z, weight, n_heads, activation, floats=True, tiles=tiles if quantisable else 0
    )
    shape = (n_tokens, n_heads, d)
    expected = gated_norm(x.reshape(shape), z.reshape(shape), weight, 1e-3, activation).reshape(
        x.shape
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if not quantisable:
        return
    norm_rows(team, x, z, weight, n_heads, activation, floats=False, tiles=alone)
    rows, stride = float_rows(found)
    Bench(team, 0).run(
        "quantize", build_quantize, QUANTIZE, [(0, n_tokens)],
        x=rows, x_stride=stride, n=n_heads * d, tiles=expected_tiles,
    )  # fmt: skip
    assert expected_tiles.any()
    assert equal_tiles(tiles, expected_tiles, n_heads * d, n_tokens)
    assert equal_tiles(alone, expected_tiles, n_heads * d, n_tokens)
