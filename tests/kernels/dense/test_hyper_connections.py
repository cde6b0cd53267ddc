"""Hyper-connections and gates of streams against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.dense.streams import (
    GATE_STREAMS,
    MIX_STREAMS,
    SPREAD_STREAMS,
    STREAM_NORM,
    build_gate_streams,
    build_mix_streams,
    build_spread_streams,
    build_stream_norm,
)
from slotmux.kernels.team import aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.harness import Bench, aligned, equal_tiles, float_rows
from tests.reference import streams as twins

EPS = 1e-3
SIZES = [(1, 2, 16), (13, 3, 48), (9, 4, 64), (17, 2, 544)]  # rows, streams, width


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of("auto", request.param)


@pytest.fixture(params=SIZES, ids=str)
def size(request):
    return request.param


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(team, name, build, layout, n_tokens, **operands):
    """One op over rows, given as arrays [rows, ..]; returns the memory of those that were."""
    rows = {}
    for field, value in operands.items():
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and value.ndim > 1:
            rows[field] = float_rows(value.reshape(len(value), -1))
    for field, (memory, stride) in rows.items():
        operands |= {field: memory, f"{field}_stride": stride}
    Bench(team, 0).run(name, build, layout, [(0, n_tokens)], **operands)
    return rows


def columns(rows, n_rows, n):
    memory, stride = rows
    return memory[: n_rows * stride // 4].reshape(n_rows, -1)[:, :n]


def assert_tiles(team, rows, tiles, n_rows, n):
    """Tiles are those of the op's own rows."""
    memory, stride = rows
    expected = aligned_zeros(-(-n_rows // 8) * tile_bytes(n))
    Bench(team, 0).run("quantize", build_quantize, QUANTIZE, [(0, n_rows)], x=memory,
                       x_stride=stride, n=n, tiles=expected)  # fmt: skip
    assert expected.any()
    assert equal_tiles(tiles, expected, n, n_rows)


def test_every_stream_is_normed_by_itself(team, size):
    n_rows, n_streams, n = size
    x, weight = normal(1, n_rows, n_streams, n), normal(2, n_streams, n)
    tiles = aligned_zeros(-(-n_rows // 8) * tile_bytes(n_streams * n)) if n % 32 == 0 else 0
    rows = run(team, "stream_norm", build_stream_norm, STREAM_NORM, n_rows, x=x, index=0,
               n_streams=n_streams, n=n, weight=aligned(weight), eps=aligned([EPS]),
               out=np.full_like(x, np.nan), tiles=tiles)  # fmt: skip
    want = twins.stream_norm(x.astype(np.float64), weight, EPS).reshape(n_rows, -1)
    got = columns(rows["out"], n_rows, n_streams * n)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    if n % 32 == 0:
        assert_tiles(team, rows["out"], tiles, n_rows, n_streams * n)


def test_rows_that_get_logits_are_normed_alone(team):
    x, weight = normal(1, 13, 3, 48), normal(2, 3, 48)
    index = np.array([12, 3, 7], np.int32)
    rows = run(team, "stream_norm", build_stream_norm, STREAM_NORM, 3, x=x, index=index,
               n_streams=3, n=48, weight=aligned(weight), eps=aligned([EPS]),
               out=np.full((3, 144), np.nan, np.float32), tiles=0)  # fmt: skip
    want = twins.stream_norm(x[index].astype(np.float64), weight, EPS).reshape(3, -1)
    np.testing.assert_allclose(columns(rows["out"], 3, 144), want, rtol=1e-5, atol=1e-6)


def test_streams_are_mixed_by_their_gates(team, size):
    n_rows, n_streams, n = size
    x, gate = normal(1, n_rows, n_streams, n), 3 * normal(2, n_rows, n_streams, n)
    tiles = aligned_zeros(-(-n_rows // 8) * tile_bytes(n)) if n % 32 == 0 else 0
    rows = run(team, "mix_streams", build_mix_streams, MIX_STREAMS, n_rows, x=x, gate=gate,
               n_streams=n_streams, n=n, out=np.full((n_rows, n), np.nan, np.float32),
               tiles=tiles)  # fmt: skip
    want = twins.mix_streams(x.astype(np.float64), gate)
    np.testing.assert_allclose(columns(rows["out"], n_rows, n), want, rtol=1e-5, atol=1e-6)
    if n % 32 == 0:
        assert_tiles(team, rows["out"], tiles, n_rows, n)


def test_a_result_goes_to_every_stream(team, size):
    n_rows, n_streams, n = size
    x, y = normal(1, n_rows, n_streams, n), normal(2, n_rows, n)
    weight = 4 * normal(3, n_rows, n_streams)
    rows = run(team, "spread_streams", build_spread_streams, SPREAD_STREAMS, n_rows, x=x, y=y,
               weight=weight, n_streams=n_streams, n=n)  # fmt: skip
    want = twins.spread_streams(x.astype(np.float64), y, weight).reshape(n_rows, -1)
    got = columns(rows["x"], n_rows, n_streams * n)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def gated(team, n_rows, n_streams, n, key):
    query, value = normal(2, n_rows, n_streams, n), normal(3, n_rows, n)
    rows = run(team, "gate_streams", build_gate_streams, GATE_STREAMS, n_rows, key=key,
               query=query, value=value, n_streams=n_streams, n=n,
               out=np.full_like(key, np.nan))  # fmt: skip
    want = twins.gate_streams(key.astype(np.float64), query, value).reshape(n_rows, -1)
    return columns(rows["out"], n_rows, n_streams * n), want


def test_a_value_is_gated_by_each_streams_key(team, size):
    n_rows, n_streams, n = size
    key = normal(1, n_rows, n_streams, n)
    key[0, 0] = 0.0  # a score of zero is none of LEAST_SCORE
    key[0, 1] *= np.float32(1e-9)
    got, want = gated(team, n_rows, n_streams, n, key)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_gate_of_nan_is_nan(team):
    key = normal(1, 3, 2, 16)
    key[1, 0, 5] = np.nan
    got, _ = gated(team, 3, 2, 16, key)
    assert np.isnan(got[1, :16]).all()
    assert np.isfinite(np.delete(got, 1, 0)).all()
    assert np.isfinite(got[1, 16:]).all()


def test_same_bits_on_every_instruction_set(team_of):
    x, gate = normal(1, 9, 3, 48), normal(2, 9, 3, 48)
    found = []
    for isa in usable_isas():
        rows = run(team_of(isa), "mix_streams", build_mix_streams, MIX_STREAMS, 9, x=x, gate=gate,
                   n_streams=3, n=48, out=np.zeros((9, 48), np.float32), tiles=0)  # fmt: skip
        found.append(columns(rows["out"], 9, 48).tobytes())
    assert len(set(found)) == 1
