"""The short convolution."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.recurrent.conv import (
    CONV,
    build_conv,
    padded_channels,
    pending_floats,
    state_floats,
)
from tests.kernels.recurrent.harness import Bench, aligned
from tests.kernels.recurrent.ops.base import OpCase, outputs
from tests.reference.conv import short_conv


class Conv(OpCase):
    """Inputs x, factor and gate; the latter two are used where it is of products."""

    def __init__(self, team, n_tokens, n, n_taps, *, silu, bias, products) -> None:
        super().__init__(team, n_tokens, n * 100 + n_taps)
        self.n_out, self.n_taps, self.silu, self.products = n, n_taps, silu, products
        self.bench = Bench(team, state_floats(n_taps, n), pending_floats(n))
        self.weight = self.normal(n_taps, n)
        self.bias = self.normal(n) if bias else None
        self.draw_inputs(n, n, n)

    def run(self, parts, tiles=0, floats=True):
        (x, x_stride), (f, f_stride), (g, g_stride) = self.rows_of(parts)
        padded = np.zeros((self.n_taps, padded_channels(self.n_out)), np.float32)
        padded[:, : self.n_out] = self.weight
        out, out_stride = self.room(parts)
        self.bench.run(
            f"conv.{self.n_taps}.{'silu' if self.silu else 'plain'}",
            lambda: build_conv(self.n_taps, self.silu),
            CONV,
            [(slot, n) for slot, _, n in parts],
            x=x,
            x_stride=x_stride,
            factor=f if self.products else 0,
            factor_stride=f_stride,
            gate=g if self.products else 0,
            gate_stride=g_stride,
            weight=aligned(padded),
            bias=0 if self.bias is None else aligned(self.bias),
            n=self.n_out,
            out=out if floats else 0,
            out_stride=out_stride,
            tiles=tiles,
        )
        return outputs(out, out_stride, sum(n for _, _, n in parts), self.n_out, 16)

    def expected(self, slot, first, n, state):
        x, f, g = (part[first : first + n] for part in self.inputs[slot])
        products = {"factor": f, "gate": g} if self.products else {}
        return short_conv(x, self.weight, self.bias, silu=self.silu, window=state, **products)

    def state(self, slot):
        return self.bench.state(slot).reshape(self.n_taps - 1, -1)[:, : self.n_out]
