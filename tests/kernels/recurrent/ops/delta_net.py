"""Gated DeltaNet."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.recurrent.delta_net import DELTA, build_delta_net, pending_floats
from slotmux.kernels.ops.recurrent.delta_rule import block_vectors
from tests.kernels.recurrent.harness import Bench, aligned, float_rows
from tests.kernels.recurrent.ops.base import OpCase, outputs
from tests.reference.delta_net import delta_net

EPS = 1e-6


class DeltaNet(OpCase):
    """Inputs q, k, v, alpha and b; ``k_heads``: the q and k head of each v head."""

    def __init__(self, team, n_tokens, d, k_heads) -> None:
        super().__init__(team, n_tokens, 0)
        self.d, self.k_heads = d, np.array(k_heads, np.int32)
        self.n_v, n_k = len(k_heads), int(max(k_heads)) + 1
        self.n_out = self.n_v * d
        self.bench = Bench(team, self.n_v * d * d, pending_floats(self.n_v, d))
        self.a = -self.rng.uniform(0.05, 2.0, self.n_v).astype(np.float32)
        self.dt_bias = self.normal(self.n_v)
        self.draw_inputs(n_k * d, n_k * d, self.n_v * d, self.n_v, self.n_v)

    def run(self, parts, tiles=0, floats=True):
        q, k, v, alpha, b = (self.gather(j, parts) for j in range(5))
        qkv, stride = float_rows(np.concatenate([q, k, v], 1))
        gates, gate_stride = float_rows(np.concatenate([alpha, b], 1))
        out, out_stride = self.room(parts)
        n_vectors = block_vectors(self.d)
        self.bench.run(
            f"delta_net.{n_vectors}",
            lambda: build_delta_net(n_vectors),
            DELTA,
            [(slot, n) for slot, _, n in parts],
            q=qkv,
            k=qkv.ctypes.data + 4 * q.shape[1],
            v=qkv.ctypes.data + 8 * q.shape[1],
            q_stride=stride,
            alpha=gates,
            b=gates.ctypes.data + 4 * self.n_v,
            alpha_stride=gate_stride,
            a=aligned(self.a),
            dt_bias=aligned(self.dt_bias),
            k_heads=self.k_heads,
            n_heads=self.n_v,
            d=self.d,
            eps=aligned([EPS]),
            out=out,
            out_stride=out_stride,
        )
        return outputs(out, out_stride, len(v), self.n_out)

    def expected(self, slot, first, n, state):
        q, k, v, alpha, b = (x[first : first + n] for x in self.inputs[slot])
        heads = (x.reshape(n, -1, self.d) for x in (q, k, v))
        out, state = delta_net(*heads, alpha, b, self.a, self.dt_bias, self.k_heads, EPS, state)
        return out.reshape(n, -1), state

    def state(self, slot):
        width = 16 * block_vectors(self.d)
        blocks = self.bench.state(slot).reshape(self.n_v, -1, self.d, width)
        return blocks.transpose(0, 2, 1, 3).reshape(self.n_v, self.d, self.d)
