"""The SSD scan, its time steps and the gated norm against their twins, and cut in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.recurrent.mamba2 import (
    GATE_THEN_NORM,
    MAMBA2,
    MAMBA2_STEPS,
    build_gate_then_norm,
    build_mamba2,
    build_mamba2_steps,
    pending_floats,
    state_floats,
)
from slotmux.kernels.team import make_team
from tests.kernels.recurrent.harness import Bench, aligned, cut, float_rows
from tests.reference.mamba import gated_norm, mamba2

RUNS = [(3, 1), (0, 70), (5, 2), (1, 33)]


@pytest.fixture(scope="module", params=[1, 3])
def team(request, kernel_cache_dir):
    team = make_team("auto", request.param, kernel_cache_dir)
    yield team
    team.close()


def read(rows, stride, n_rows, width):
    """The first columns of float rows, a copy."""
    return rows[: n_rows * stride // 4].reshape(n_rows, -1)[:, :width].copy()


class Scan:
    """Time steps and scan with random weights, and inputs x, dt, b, c for each slot."""

    def __init__(self, team, n_head, head_dim, n_group, n_state) -> None:
        rng = np.random.default_rng(n_head + head_dim + n_state)

        def normal(*shape):
            return rng.normal(size=shape).astype(np.float32)

        self.n_head, self.head_dim, self.n_group, self.n_state = n_head, head_dim, n_group, n_state
        sizes = (n_head, head_dim, n_state)
        self.bench = Bench(team, state_floats(*sizes), pending_floats(*sizes))
        self.a, self.d, self.dt_bias = -np.exp(normal(n_head)), normal(n_head), normal(n_head)
        widths = (n_head * head_dim, n_head, n_group * n_state, n_group * n_state)
        self.inputs = {slot: [normal(80, width) for width in widths] for slot in range(8)}

    def steps(self, runs, dt):
        """dt and decay, side by side in rows, and their stride."""
        column = -(-self.n_head // 16) * 16
        x, x_stride = float_rows(dt)
        out, stride = float_rows(np.full((len(dt), 2 * column), np.nan, np.float32))
        self.bench.run(
            "mamba2_steps", build_mamba2_steps, MAMBA2_STEPS, runs,
            x=x, x_stride=x_stride, n_head=self.n_head, dt_bias=aligned(self.dt_bias),
            a=aligned(self.a), dt=out, decay=out[column:], out_stride=stride,
        )  # fmt: skip
        return out, out[column:], stride

    def run(self, parts):
        """Outputs of ``parts`` = [(slot, first, number)], [n_tokens, n_head * head_dim]."""
        x, dt, b, c = (
            np.concatenate([self.inputs[s][j][i : i + n] for s, i, n in parts]) for j in range(4)
        )
        runs, width = [(slot, n) for slot, _, n in parts], x.shape[1]
        fresh = self.bench.fresh.copy()
        step_sizes, decay, dt_stride = self.steps(runs, dt)
        self.bench.fresh[:] = fresh
        (x, x_stride), (b, bc_stride), (c, _) = map(float_rows, (x, b, c))
        out, out_stride = float_rows(np.full((len(dt), width), np.nan, np.float32))
        self.bench.run(
            "mamba2", build_mamba2, MAMBA2, runs,
            x=x, x_stride=x_stride, b=b, c=c, bc_stride=bc_stride, dt=step_sizes, decay=decay,
            dt_stride=dt_stride, d=aligned(self.d), n_head=self.n_head, head_dim=self.head_dim,
            n_group=self.n_group, n_state=self.n_state, out=out, out_stride=out_stride,
        )  # fmt: skip
        return read(out, out_stride, len(dt), width)

    def expected(self, slot, first, n, state):
        """The twin's outputs and new state."""
        x, dt, b, c = (part[first : first + n] for part in self.inputs[slot])
        x = x.reshape(n, self.n_head, self.head_dim)
        b, c = (part.reshape(n, self.n_group, self.n_state) for part in (b, c))
        out, state = mamba2(x, dt, b, c, self.a, self.d, self.dt_bias, state)
        return out.reshape(n, -1), state

    def state(self, slot):
        """A slot's state in the pool, [n_head, head_dim, n_state]."""
        packed = self.bench.state(slot).reshape(self.n_head, -1, self.n_state, 16)
        lanes = packed.transpose(0, 1, 3, 2).reshape(self.n_head, -1, self.n_state)
        return lanes[:, : self.head_dim]


@pytest.mark.parametrize(
    ("n_head", "head_dim", "n_group", "n_state"),
    [(1, 16, 1, 16), (6, 20, 2, 8), (4, 32, 4, 35), (17, 5, 1, 3), (8, 64, 2, 64)],
)
def test_matches_twin_fresh_and_continued(team, n_head, head_dim, n_group, n_state):
    scan = Scan(team, n_head, head_dim, n_group, n_state)
    states = dict.fromkeys((slot for slot, _ in RUNS), None)
    for step in ([(slot, 0, n) for slot, n in RUNS], [(0, 70, 3), (3, 1, 2), (1, 33, 40)]):
        out, row = scan.run(step), 0
        for slot, first, length in step:
            expected, states[slot] = scan.expected(slot, first, length, states[slot])
            np.testing.assert_allclose(out[row : row + length], expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(scan.state(slot), states[slot], rtol=1e-4, atol=1e-5)
            row += length


@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 37], [64]])
def test_pieces_equal_whole_bit_for_bit(team, sizes):
    shape = (6, 24, 2, 19)
    whole, expected, row = Scan(team, *shape), {}, 0
    out = whole.run([(slot, 0, n) for slot, n in RUNS])
    for slot, n in RUNS:
        expected[slot] = out[row : row + n]
        row += n
    pieces = Scan(team, *shape)
    for step in cut(RUNS, sizes):
        out, row = pieces.run(step), 0
        for slot, first, n in step:
            assert np.array_equal(out[row : row + n], expected[slot][first : first + n])
            row += n
    for slot, _ in RUNS:
        assert np.array_equal(pieces.state(slot), whole.state(slot))


@pytest.mark.parametrize(("n", "n_group"), [(96, 2), (100, 5), (1, 1), (320, 1)])
@pytest.mark.parametrize("has_norm", [True, False])
def test_gated_norm(team, n, n_group, has_norm):
    rng = np.random.default_rng(n)
    bench, n_rows, eps = Bench(team, 1), 9, 1e-3
    y, z = (rng.normal(size=(n_rows, n)).astype(np.float32) for _ in range(2))
    weight = rng.normal(size=n).astype(np.float32) if has_norm else None
    (y_rows, y_stride), (z_rows, z_stride) = float_rows(y), float_rows(z)
    out, out_stride = float_rows(np.full((n_rows, n), np.nan, np.float32))
    operands = {
        "y": y_rows, "y_stride": y_stride, "z": z_rows, "z_stride": z_stride, "n": n,
        "n_group": n_group, "weight": aligned(weight) if has_norm else 0,
        "eps": aligned([eps]), "out_stride": out_stride,
    }  # fmt: skip
    run = ("mamba2_gate", build_gate_then_norm, GATE_THEN_NORM, [(0, n_rows)])
    bench.run(*run, **operands, out=out)
    found = read(out, out_stride, n_rows, n)
    want = gated_norm(y, z, weight, n_group, eps)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
