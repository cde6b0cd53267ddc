"""The scans of Mamba 1 and 2, the latter with its time steps before it."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.recurrent import mamba1, mamba2
from tests.kernels.recurrent.harness import Bench, aligned, float_rows
from tests.kernels.recurrent.ops.base import OpCase, outputs
from tests.reference import mamba as twins


class Mamba1(OpCase):
    """Inputs x, dt, z, b and c."""

    def __init__(self, team, n_tokens, n, n_state) -> None:
        super().__init__(team, n_tokens, n + n_state)
        self.n_out, self.n_state = n, n_state
        sizes = (n, n_state)
        self.bench = Bench(team, mamba1.state_floats(*sizes), mamba1.pending_floats(*sizes))
        self.a = -np.exp(self.normal(n, n_state))
        self.d, self.dt_bias = self.normal(n), self.normal(n)
        self.draw_inputs(n, n, n, n_state, n_state)

    def run(self, parts, tiles=0, floats=True):
        x, dt, z, b, c = self.rows_of(parts)
        out, out_stride = self.room(parts)
        self.bench.run(
            "mamba1",
            mamba1.build_mamba1,
            mamba1.MAMBA1,
            [(slot, n) for slot, _, n in parts],
            x=x[0],
            x_stride=x[1],
            dt=dt[0],
            dt_stride=dt[1],
            z=z[0],
            z_stride=z[1],
            b=b[0],
            c=c[0],
            b_stride=b[1],
            a=aligned(mamba1.packed_a(self.a)),
            d=aligned(self.d),
            dt_bias=aligned(self.dt_bias),
            n=self.n_out,
            n_state=self.n_state,
            out=out if floats else 0,
            out_stride=out_stride,
            tiles=tiles,
        )
        return outputs(out, out_stride, sum(n for _, _, n in parts), self.n_out, 16)

    def expected(self, slot, first, n, state):
        x, dt, z, b, c = (part[first : first + n] for part in self.inputs[slot])
        return twins.mamba1(x, dt, z, b, c, self.a, self.d, self.dt_bias, state)

    def state(self, slot):
        packed = self.bench.state(slot).reshape(-1, self.n_state, 16)
        return packed.transpose(0, 2, 1).reshape(-1, self.n_state)[: self.n_out]


class Mamba2(OpCase):
    """Inputs x, dt, b and c."""

    def __init__(self, team, n_tokens, n_head, head_dim, n_group, n_state) -> None:
        super().__init__(team, n_tokens, n_head + head_dim + n_state)
        self.n_head, self.head_dim, self.n_group, self.n_state = n_head, head_dim, n_group, n_state
        self.n_out = n_head * head_dim
        sizes = (n_head, head_dim, n_state)
        self.bench = Bench(team, mamba2.state_floats(*sizes), mamba2.pending_floats(*sizes))
        self.a, self.d = -np.exp(self.normal(n_head)), self.normal(n_head)
        self.dt_bias = self.normal(n_head)
        self.draw_inputs(self.n_out, n_head, n_group * n_state, n_group * n_state)

    def steps(self, runs, dt):
        """dt and decay, side by side in rows, and their stride."""
        column = -(-self.n_head // 16) * 16
        x, x_stride = float_rows(dt)
        out, stride = float_rows(np.full((len(dt), 2 * column), np.nan, np.float32))
        fresh = self.bench.fresh.copy()
        self.bench.run(
            "mamba2_steps",
            mamba2.build_mamba2_steps,
            mamba2.MAMBA2_STEPS,
            runs,
            x=x,
            x_stride=x_stride,
            n_head=self.n_head,
            dt_bias=aligned(self.dt_bias),
            a=aligned(self.a),
            dt=out,
            decay=out[column:],
            dt_stride=stride,
        )
        self.bench.fresh[:] = fresh
        return out, out[column:], stride

    def run(self, parts, tiles=0, floats=True):
        runs = [(slot, n) for slot, _, n in parts]
        step_sizes, decay, dt_stride = self.steps(runs, self.gather(1, parts))
        (x, x_stride), _, (b, bc_stride), (c, _) = self.rows_of(parts)
        out, out_stride = self.room(parts)
        self.bench.run(
            "mamba2",
            mamba2.build_mamba2,
            mamba2.MAMBA2,
            runs,
            x=x,
            x_stride=x_stride,
            b=b,
            c=c,
            b_stride=bc_stride,
            dt=step_sizes,
            decay=decay,
            dt_stride=dt_stride,
            d=aligned(self.d),
            n_head=self.n_head,
            head_dim=self.head_dim,
            n_group=self.n_group,
            n_state=self.n_state,
            out=out,
            out_stride=out_stride,
        )
        return outputs(out, out_stride, sum(n for _, n in runs), self.n_out)

    def expected(self, slot, first, n, state):
        x, dt, b, c = (part[first : first + n] for part in self.inputs[slot])
        x = x.reshape(n, self.n_head, self.head_dim)
        b, c = (part.reshape(n, self.n_group, self.n_state) for part in (b, c))
        out, state = twins.mamba2(x, dt, b, c, self.a, self.d, self.dt_bias, state)
        return out.reshape(n, -1), state

    def state(self, slot):
        packed = self.bench.state(slot).reshape(self.n_head, -1, self.n_state, 16)
        lanes = packed.transpose(0, 1, 3, 2).reshape(self.n_head, -1, self.n_state)
        return lanes[:, : self.head_dim]
