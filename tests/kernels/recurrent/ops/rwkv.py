"""RWKV: the time mixing of versions 6 and 7, and the shift by one token."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.recurrent import gated_linear, rwkv6, rwkv7, token_shift
from slotmux.kernels.ops.recurrent.rwkv import pending_floats
from tests.kernels.recurrent.harness import Bench, aligned
from tests.kernels.recurrent.ops.base import OpCase, outputs
from tests.reference import rwkv as twins

EPS = 64e-5
INPUTS = {6: "rkvwg", 7: "rkvwag"}
VECTORS = {6: ("u", "ln_weight", "ln_bias"), 7: ("k_k", "k_a", "r_k", "ln_weight", "ln_bias")}
BUILDS = {6: (rwkv6.build_wkv6, rwkv6.WKV6), 7: (rwkv7.build_wkv7, rwkv7.WKV7)}
N_KEPT = {6: rwkv6.N_KEPT, 7: rwkv7.N_KEPT}


class Wkv(OpCase):
    """The recurrence of a version, with its norm and gate; version 7 may be without both."""

    def __init__(self, team, n_tokens, version, n_heads, d, is_bare=False) -> None:
        super().__init__(team, n_tokens, 100 * n_heads + d)
        self.version, self.n_heads, self.d, self.is_bare = version, n_heads, d, is_bare
        self.width, self.n_out = -(-d // 16) * 16, n_heads * d
        kept = pending_floats(N_KEPT[version], n_heads, d)
        self.bench = Bench(team, n_heads * d * self.width, kept)
        self.names = INPUTS[version]
        self.vectors = {name: self.normal(n_heads, d) for name in VECTORS[version]}
        self.draw_inputs(*[self.n_out] * len(self.names))
        for rows in self.inputs.values():
            for name in "wa":  # between 0 and 1
                if name in self.names:
                    j = self.names.index(name)
                    rows[j] = 1 / (1 + np.exp(-rows[j] - 1))

    def run(self, parts, tiles=0, floats=True):
        rows = dict(zip(self.names, self.rows_of(parts), strict=True))
        vectors = {name: aligned(v) for name, v in self.vectors.items()}
        addresses = {name: x for name, (x, _) in rows.items()} | vectors
        if self.is_bare:
            addresses |= dict.fromkeys(("g", "ln_weight", "ln_bias"), 0)
        out, out_stride = self.room(parts)
        self.bench.run(
            f"wkv{self.version}",
            *BUILDS[self.version],
            [(slot, n) for slot, _, n in parts],
            **addresses,
            r_stride=rows["r"][1],
            n_heads=self.n_heads,
            d=self.d,
            eps=aligned([EPS]),
            out=out if floats else 0,
            out_stride=out_stride,
            tiles=tiles,
        )
        return outputs(out, out_stride, sum(n for _, _, n in parts), self.n_out)

    def expected(self, slot, first, n, state):
        rows = {
            name: x[first : first + n].reshape(n, self.n_heads, self.d).astype(np.float64)
            for name, x in zip(self.names, self.inputs[slot], strict=True)
        }
        vectors = {k.removeprefix("ln_"): v.astype(np.float64) for k, v in self.vectors.items()}
        if self.is_bare:
            rows["g"] = vectors["weight"] = vectors["bias"] = None
        twin = twins.wkv6 if self.version == 6 else twins.wkv7
        y, state = twin(**rows, **vectors, eps=EPS, state=state)
        return y.reshape(n, -1), state

    def state(self, slot):
        return self.bench.state(slot).reshape(self.n_heads, self.d, self.width)[:, :, : self.d]


class GatedLinear(OpCase):
    """Gated linear attention, groups of heads sharing k and v."""

    def __init__(self, team, n_tokens, n_heads, n_groups, d) -> None:
        super().__init__(team, n_tokens, 10 * n_heads + d)
        self.n_heads, self.n_groups, self.d = n_heads, n_groups, d
        self.width, self.n_out = -(-d // 16) * 16, n_heads * d
        kept = pending_floats(gated_linear.N_KEPT, n_heads, d)
        self.bench = Bench(team, n_heads * d * self.width, kept)
        self.draw_inputs(*[self.n_out] * 3, *[n_groups * d] * 2)
        for rows in self.inputs.values():
            rows[1] = 1 / (1 + np.exp(-rows[1] - 1))  # decays are between 0 and 1

    def run(self, parts, tiles=0, floats=True):
        (r, r_stride), (w, _), (g, _), (k, k_stride), (v, _) = self.rows_of(parts)
        out, out_stride = self.room(parts)
        self.bench.run(
            "gated_linear",
            gated_linear.build_gated_linear,
            gated_linear.GATED_LINEAR,
            [(slot, n) for slot, _, n in parts],
            r=r,
            w=w,
            g=g,
            k=k,
            v=v,
            r_stride=r_stride,
            k_stride=k_stride,
            n_heads=self.n_heads,
            n_shared=self.n_heads // self.n_groups,
            d=self.d,
            out=out if floats else 0,
            out_stride=out_stride,
            tiles=tiles,
        )
        return outputs(out, out_stride, sum(n for _, _, n in parts), self.n_out)

    def expected(self, slot, first, n, state):
        r, w, g, k, v = (
            x[first : first + n].reshape(n, -1, self.d).astype(np.float64)
            for x in self.inputs[slot]
        )
        y, state = twins.gated_linear(r, k, v, w, g, state)
        return y.reshape(n, -1), state

    def state(self, slot):
        return self.bench.state(slot).reshape(self.n_heads, self.d, self.width)[:, :, : self.d]


class Shift(OpCase):
    """The token before, or its difference to the token."""

    def __init__(self, team, n_tokens, n, is_difference) -> None:
        super().__init__(team, n_tokens, n)
        self.n_out, self.is_difference = n, is_difference
        floats = token_shift.state_floats(n)
        self.bench = Bench(team, floats, floats)
        self.draw_inputs(n)

    def run(self, parts, tiles=0, floats=True):
        ((x, x_stride),) = self.rows_of(parts)
        out, out_stride = self.room(parts)
        self.bench.run(
            "token_shift" if self.is_difference else "token_before",
            lambda: token_shift.build_token_shift(self.is_difference),
            token_shift.TOKEN_SHIFT,
            [(slot, n) for slot, _, n in parts],
            x=x,
            x_stride=x_stride,
            n=self.n_out,
            out=out,
            out_stride=out_stride,
        )
        return outputs(out, out_stride, sum(n for _, _, n in parts), self.n_out, 16)

    def expected(self, slot, first, n, state):
        x = self.inputs[slot][0][first : first + n]
        out, last = twins.token_shift(x, state)
        return out if self.is_difference else out + x, last

    def state(self, slot):
        return self.bench.state(slot)[: self.n_out]
