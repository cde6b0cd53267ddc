"""Small ops of single families against their formulas in float64: xIELU, learned positions, growing
queries, layer norms of heads."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.attention.head_norm import HEAD_NORM, build_head_norm
from slotmux.kernels.ops.attention.temperature import TEMPER, build_temper
from slotmux.kernels.ops.dense.add_rows import ADD_ROWS, build_add_rows
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.dense.xielu import XIELU, build_xielu
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.recurrent.harness import aligned, equal_tiles, float_rows
from tests.reference import norms
from tests.reference.dense import xielu


@pytest.fixture(params=[1, 3])
def team(request, team_of):
    return team_of(n_threads=request.param)


def run(team, name, build, layout, n_rows, **operands):
    """One op over a step of n_rows tokens."""
    step = np.zeros(len(STEP._fields), np.int64)
    step[STEP.n_tokens // 8] = n_rows
    if "n_rows" in layout._fields:
        operands["n_rows"] = step
    address = team.kernels.address(name, build)
    team.run(Program(team, step, [(address, fill(layout, **operands), -1)]))


def rows_of(memory, stride, shape):
    return memory[: shape[0] * stride // 4].reshape(shape[0], -1)[:, : shape[1]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (9, 544)])
def test_xielu(team, shape):
    rng = np.random.default_rng(shape[1])
    x = rng.normal(size=shape).astype(np.float32) * 3
    x.flat[: min(x.size, 4)] = [0.0, -1e-7, 90.0, -90.0][: min(x.size, 4)]
    factors = {"alpha_p": 0.8, "alpha_n": 1.3, "beta": 0.5, "most": -1e-6}
    (memory, x_stride), (out, stride) = float_rows(x), float_rows(np.zeros_like(x), padding=32)
    tiles = aligned_zeros(2 * tile_bytes(shape[1])) if shape[1] % 32 == 0 else 0
    operands = {"x": memory, "x_stride": x_stride, "n": shape[1]}
    operands |= {name: aligned([value]) for name, value in factors.items()}
    run(team, "xielu", build_xielu, XIELU, shape[0],
        out=out, out_stride=stride, tiles=tiles, **operands)  # fmt: skip
    got = rows_of(out, stride, shape)
    np.testing.assert_allclose(got, xielu(x.astype(np.float64), **factors), rtol=2e-6, atol=5e-7)
    if shape[1] % 32:
        return
    expected, alone = aligned_zeros(2 * tile_bytes(shape[1])), aligned_zeros(2 * tile_bytes(544))
    run(team, "quantize", build_quantize, QUANTIZE, shape[0],
        x=out, x_stride=stride, n=shape[1], tiles=expected)  # fmt: skip
    assert equal_tiles(tiles, expected, shape[1], shape[0])
    run(team, "xielu", build_xielu, XIELU, shape[0],
        out=0, out_stride=0, tiles=alone, **operands)  # fmt: skip
    assert equal_tiles(alone, expected, shape[1], shape[0])


@pytest.mark.parametrize("n", [16, 20, 1100])
def test_each_token_gets_the_row_of_its_position(team, n):
    rng = np.random.default_rng(n)
    x, table = (rng.normal(size=(rows, n)).astype(np.float32) for rows in (9, 30))
    positions = rng.integers(0, 30, 9).astype(np.int32)
    memory, stride = float_rows(x)
    run(team, "add_rows", build_add_rows, ADD_ROWS, 9,
        x=memory, x_stride=stride, ids=positions, table=aligned(table), n=n)  # fmt: skip
    assert np.array_equal(rows_of(memory, stride, x.shape), x + table[positions])


@pytest.mark.parametrize("offset", [0, 1])
def test_queries_grow_by_steps_of_the_context(team, offset):
    x = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    positions = np.array([0, 14, 16, 31, 32, 1000], np.int32)
    memory, stride = float_rows(x)
    run(team, "temper", build_temper, TEMPER, 6,
        x=memory, x_stride=stride, positions=positions, scale=aligned([0.3]), every=16,
        offset=offset, n=20)  # fmt: skip
    factors = 1.0 + 0.3 * np.log(1.0 + (positions + offset) // 16)
    got = rows_of(memory, stride, x.shape)
    np.testing.assert_allclose(got, x * factors[:, None], rtol=3e-7)
    assert np.array_equal(got[:2], x[:2])


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(("n_head", "head_dim"), [(1, 16), (3, 12), (5, 20)])
def test_each_head_has_its_own_norm(team, n_head, head_dim, kind):
    rng = np.random.default_rng(head_dim)
    x = rng.normal(size=(7, n_head * head_dim)).astype(np.float32) + 2
    weight = rng.normal(size=(n_head, head_dim)).astype(np.float32)
    memory, stride = float_rows(np.hstack([x, np.ones((7, 3), np.float32)]))
    run(team, f"head_norm.{kind}", lambda: build_head_norm(kind), HEAD_NORM, 7,
        x=memory, x_stride=stride, weight=aligned(weight), n_head=n_head, head_dim=head_dim,
        eps=aligned([1e-3]))  # fmt: skip
    got = rows_of(memory, stride, (7, n_head * head_dim + 3))
    heads = x.reshape(7, n_head, head_dim).astype(np.float64)
    if kind == "layer":
        expected = norms.layer_norm(heads, weight, 0.0, 1e-3).reshape(7, -1)
    else:
        scale = np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-3)
        expected = (heads / scale * weight).reshape(7, -1)
    np.testing.assert_allclose(got[:, :-3], expected, rtol=1e-5, atol=1e-5)
    assert (got[:, -3:] == 1.0).all()
