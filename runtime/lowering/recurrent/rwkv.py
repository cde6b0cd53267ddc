"""Recurrent ops of RWKV: the shift by one token and the time mixing of versions 6 and 7."""

from __future__ import annotations

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.recurrent.gated_linear import GatedLinear
from slotmux.kernels.ops.recurrent.rwkv6 import Wkv6
from slotmux.kernels.ops.recurrent.rwkv7 import Wkv7
from slotmux.kernels.ops.recurrent.token_shift import TokenShift
from slotmux.runtime.lowering.builder import Builder

GROUP_NORM_EPS = 64e-5  # fixed in the published code, not in the file


def token_shift(b: Builder, x: Rows) -> Rows:
    """The previous token's x, zeros before the start, minus the token's own."""
    out = b.buffers.rows("dx", x.width)
    b.append(TokenShift(kind="difference", x=x, out=out))
    return out


def wkv6(b: Builder, blk: str, head_size: int, r: Rows, k: Rows, v: Rows, w: Rows, g: Rows) -> Rows:
    """RWKV-6's recurrence with decay w, group norm and gate g."""
    out = b.buffers.rows("wkv", r.width)
    assert r.width % head_size == 0
    b.append(
        Wkv6(
            d=head_size,
            r=r,
            k=k,
            v=v,
            w=w,
            g=g,
            u=b.weights.vector(f"{blk}.time_mix_first.weight", head_size, r.width // head_size),
            ln_weight=b.weights.vector(f"{blk}.time_mix_ln.weight", r.width),
            ln_bias=b.weights.vector(f"{blk}.time_mix_ln.bias", r.width),
            eps=GROUP_NORM_EPS,
            out=out,
        )
    )
    return out


def gated_linear(b: Builder, head_size: int, r: Rows, k: Rows, v: Rows, w: Rows, g: Rows) -> Rows:
    """Gated linear attention with decay w and gate g; k and v are narrower where heads share
    them."""
    out = b.buffers.rows("wkv", r.width)
    assert r.width % k.width == k.width % head_size == 0
    b.append(GatedLinear(d=head_size, r=r, k=k, v=v, w=w, g=g, out=out))
    return out


def wkv7(
    b: Builder, blk: str, head_size: int, r: Rows, k: Rows, v: Rows, w: Rows, a: Rows,
    g: Rows | None, *, has_norm: bool = True,
) -> Rows:  # fmt: skip
    """RWKV-7's recurrence with decay w and rate a, group norm and gate g."""
    out = b.buffers.rows("wkv", r.width)
    assert r.width % head_size == 0
    ln_weight = ln_bias = None
    if has_norm:
        ln_weight = b.weights.vector(f"{blk}.time_mix_ln.weight", r.width)
        ln_bias = b.weights.vector(f"{blk}.time_mix_ln.bias", r.width)
    k_k, k_a, r_k = (
        b.weights.vector(f"{blk}.time_mix_{name}.weight", r.width) for name in ("k_k", "k_a", "r_k")
    )
    b.append(
        Wkv7(
            d=head_size,
            r=r,
            k=k,
            v=v,
            w=w,
            a=a,
            g=g,
            k_k=k_k,
            k_a=k_a,
            r_k=r_k,
            ln_weight=ln_weight,
            ln_bias=ln_bias,
            eps=GROUP_NORM_EPS,
            out=out,
        )
    )
    return out
