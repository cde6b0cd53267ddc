"""Kimi Delta Attention."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.recurrent.delta_rule import block_vectors
from slotmux.kernels.ops.recurrent.kda import KDA, build_kda, pending_floats
from tests.kernels.recurrent.harness import Bench, aligned, float_rows
from tests.kernels.recurrent.ops.base import OpCase, outputs
from tests.reference.kda import kda

EPS = 1e-6


class Kda(OpCase):
    """Inputs q, k, v, f and b; ``bound``: of decays, 0: they have none."""

    def __init__(self, team, n_tokens, d, n_heads, bound) -> None:
        super().__init__(team, n_tokens, 0)
        self.d, self.n_heads, self.bound = d, n_heads, bound
        self.n_out = n = n_heads * d
        self.bench = Bench(team, n * d, pending_floats(n_heads, d))
        size = self.rng.uniform(0.05, 2.0, n_heads).astype(np.float32)
        self.a = size if bound else -size
        self.dt_bias = self.normal(n)
        self.draw_inputs(n, n, n, n, n_heads)

    def run(self, parts, tiles=0, floats=True):
        q, k, v, f, b = (self.gather(j, parts) for j in range(5))
        qkv, stride = float_rows(np.concatenate([q, k, v], 1))
        (f_rows, f_stride), (b_rows, b_stride) = float_rows(f), float_rows(b)
        out, out_stride = self.room(parts)
        n_vectors, kind = block_vectors(self.d), "bounded" if self.bound else "softplus"
        self.bench.run(
            f"kda.{n_vectors}.{kind}",
            lambda: build_kda(n_vectors, self.bound != 0.0),
            KDA,
            [(slot, n) for slot, _, n in parts],
            q=qkv,
            q_stride=stride,
            k=qkv.ctypes.data + 4 * self.n_out,
            v=qkv.ctypes.data + 8 * self.n_out,
            f=f_rows,
            f_stride=f_stride,
            b=b_rows,
            b_stride=b_stride,
            a=aligned(self.a),
            dt_bias=aligned(self.dt_bias),
            bound=aligned([self.bound]),
            n_heads=self.n_heads,
            d=self.d,
            eps=aligned([EPS]),
            out=out,
            out_stride=out_stride,
        )
        return outputs(out, out_stride, len(v), self.n_out)

    def expected(self, slot, first, n, state):
        q, k, v, f, b = (x[first : first + n] for x in self.inputs[slot])
        q, k, v, f = (x.reshape(n, -1, self.d) for x in (q, k, v, f))
        dt_bias = self.dt_bias.reshape(-1, self.d)
        out, state = kda(q, k, v, f, b, self.a, dt_bias, self.bound, EPS, state)
        return out.reshape(n, -1), state

    def state(self, slot):
        width = 16 * block_vectors(self.d)
        blocks = self.bench.state(slot).reshape(self.n_heads, -1, self.d, width)
        return blocks.transpose(0, 2, 1, 3).reshape(self.n_heads, self.d, self.d)
