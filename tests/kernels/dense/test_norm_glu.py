"""RMS norm and GLU against their twins, at odd sizes, with one thread and three."""

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.operands import fill
from slotmux.kernels.ops.dense.glu import GLU, build_glu
from slotmux.kernels.ops.dense.norm import RMS_NORM, build_rms_norm
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.recurrent.harness import equal_tiles
from tests.reference import dense

CAPACITY = 48


def run(team, kernel, build, operands):
    program = Program(
        team, np.zeros(1, np.int64), [(team.kernels.address(kernel, build), operands, -1)]
    )
    team.run(program)


def rows_of(rng, n_rows, stride):
    """Float rows with room for whole tiles; what is behind the last row is NaN."""
    x = aligned_zeros(4 * (CAPACITY * stride + 16)).view(np.float32)
    x[:] = np.nan
    rows = x[: CAPACITY * stride].reshape(CAPACITY, stride)
    rows[:n_rows] = rng.standard_normal((n_rows, stride)) * 3.0
    return rows


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(("n_rows", "n"), [(1, 64), (3, 40), (7, 16), (33, 96), (9, 544), (5, 390)])
def test_rms_norm(team_of, n_threads, n_rows, n):
    rng = np.random.default_rng(n)
    stride = -(-n // 16) * 16
    x, out = rows_of(rng, n_rows, stride), rows_of(rng, 0, stride)
    weight = np.ones(n + 16, np.float32)
    weight[:n] = rng.uniform(0.5, 1.5, n)
    count, eps = np.array([n_rows]), np.array([1e-3], np.float32)
    tiles = aligned_zeros(CAPACITY // 8 * tile_bytes(n)) if n % 32 == 0 else 0
    operands = fill(RMS_NORM, x=x, x_stride=4 * stride, index=0, n_rows=count, n=n,
                    weight=weight, eps=eps, out=out, out_stride=4 * stride, tiles=tiles,
                    add=0)  # fmt: skip
    team = team_of("auto", n_threads)
    run(team, "rms_norm", build_rms_norm, operands)
    expected = dense.rms_norm(x[:n_rows, :n], weight[:n], 1e-3)
    np.testing.assert_allclose(out[:n_rows, :n], expected, rtol=2e-6, atol=1e-6)
    assert np.isnan(out[n_rows:]).all()
    if n % 32 == 0:  # its 8-bit form is the one that quantising the result gives
        again = aligned_zeros(tiles.nbytes)
        operands = fill(QUANTIZE, x=out, x_stride=4 * stride, n=n, n_rows=count, tiles=again)
        run(team, "quantize", build_quantize, operands)
        assert equal_tiles(tiles, again, n, n_rows)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_erf", "relu2"])
@pytest.mark.parametrize(
    ("n_rows", "n", "gated"), [(1, 64, True), (9, 544, True), (5, 48, True), (17, 96, False)]
)
def test_glu(team_of, n_threads, activation, n_rows, n, gated):
    rng = np.random.default_rng(n)
    both, out = rows_of(rng, n_rows, 2 * n), rows_of(rng, 0, n)
    tiles = aligned_zeros(CAPACITY // 8 * tile_bytes(n)) if n % 32 == 0 else 0
    count, address = np.array([n_rows]), both.ctypes.data
    operands = fill(GLU, gate=address if gated else 0, up=address + 4 * n, up_stride=8 * n, n=n,
                    n_rows=count, out=out, out_stride=4 * n, tiles=tiles,
                    most_rows=n_rows)  # fmt: skip
    team = team_of("auto", n_threads)
    run(team, f"glu.{activation}", lambda: build_glu(activation), operands)
    gate, up = both[:n_rows, :n].astype(np.float64), both[:n_rows, n:].astype(np.float64)
    act = dense.ACTIVATIONS[activation]
    expected = act(gate) * up if gated else act(up)
    np.testing.assert_allclose(out[:n_rows], expected, rtol=2e-5, atol=2e-6)
    assert np.isnan(out[n_rows:]).all()
    if n % 32 == 0:
        again = aligned_zeros(tiles.nbytes)
        operands = fill(QUANTIZE, x=out, x_stride=4 * n, n=n, n_rows=count, tiles=again)
        run(team, "quantize", build_quantize, operands)
        assert equal_tiles(tiles, again, n, n_rows)
