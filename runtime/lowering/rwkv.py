"""Recurrent ops of RWKV: the shift by one token and the time mixing of versions 6 and 7."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.recurrent.rwkv import pending_floats, scratch_bytes
from slotmux.kernels.ops.recurrent.rwkv6 import N_KEPT as N_KEPT6
from slotmux.kernels.ops.recurrent.rwkv6 import N_SCRATCH as N_SCRATCH6
from slotmux.kernels.ops.recurrent.rwkv6 import WKV6, build_wkv6
from slotmux.kernels.ops.recurrent.rwkv7 import N_KEPT as N_KEPT7
from slotmux.kernels.ops.recurrent.rwkv7 import N_SCRATCH as N_SCRATCH7
from slotmux.kernels.ops.recurrent.rwkv7 import WKV7, build_wkv7
from slotmux.kernels.ops.recurrent.token_shift import TOKEN_SHIFT, build_token_shift, state_floats
from slotmux.kernels.ops.recurrent.token_shift import scratch_bytes as shift_scratch_bytes
from slotmux.runtime.lowering.buffers import Rows, round_up
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.ops import Layout

GROUP_NORM_EPS = 64e-5  # fixed in the published code, not in the file


def token_shift(b: Builder, x: Rows, name: str = "dx", *, is_difference: bool = True) -> Rows:
    """The previous token's x, zeros before the start; a difference: minus the token's own."""
    out = b.buffers.rows(name, x.width)
    b.append_recurrent(
        "token_shift" if is_difference else "token_before",
        lambda: build_token_shift(is_difference),
        TOKEN_SHIFT,
        {
            "x": x.address,
            "x_stride": x.stride,
            "n": x.width,
            "out": out.address,
            "out_stride": out.stride,
        },
        [x.span],
        [out.span],
        state_floats(x.width),
        state_floats(x.width),
        shift_scratch_bytes(),
    )
    return out


def wkv6(b: Builder, blk: str, head_size: int, inputs: dict[str, Rows]) -> Rows:
    """RWKV-6's recurrence, group norm and gate; ``inputs`` r, k, v, w (decay), g."""
    n = inputs["r"].width
    first = b.weights.vector(f"{blk}.time_mix_first.weight", head_size, n // head_size)
    return _wkv(
        b, "wkv6", build_wkv6, WKV6, N_KEPT6, N_SCRATCH6, blk, head_size, inputs, {"u": first}
    )


def wkv7(b: Builder, blk: str, head_size: int, inputs: dict[str, Rows]) -> Rows:
    """RWKV-7's recurrence, group norm and gate; ``inputs`` r, k, v, w (decay), a (rate), g."""
    n = inputs["r"].width
    vectors = {
        name: b.weights.vector(f"{blk}.time_mix_{name}.weight", n) for name in ("k_k", "k_a")
    }
    vectors["r_k"] = b.weights.vector(f"{blk}.time_mix_r_k.weight", n)
    return _wkv(b, "wkv7", build_wkv7, WKV7, N_KEPT7, N_SCRATCH7, blk, head_size, inputs, vectors)


def _wkv(
    b: Builder,
    kernel: str,
    build: Callable[[], Callable[..., None]],
    layout: Layout,
    n_kept: int,
    n_scratch: int,
    blk: str,
    d: int,
    inputs: dict[str, Rows],
    vectors: dict[str, NDArray[np.float32]],
) -> Rows:
    n, stride = inputs["r"].width, inputs["r"].stride
    assert n % d == 0
    assert all(rows.width == n and rows.stride == stride for rows in inputs.values())
    out = b.buffers.rows("wkv", n)
    op = b.append_recurrent(
        kernel,
        build,
        layout,
        {
            **{name: rows.address for name, rows in inputs.items()},
            **vectors,
            "stride": stride,
            "n_heads": n // d,
            "d": d,
            "ln_weight": b.weights.vector(f"{blk}.time_mix_ln.weight", n),
            "ln_bias": b.weights.vector(f"{blk}.time_mix_ln.bias", n),
            "eps": b.scalar(GROUP_NORM_EPS),
            "out": 0,
            "out_stride": out.stride,
            "tiles": 0,
        },
        [rows.span for rows in inputs.values()],
        [out.span],
        n * round_up(d, 16),
        pending_floats(n_kept, n // d, d),
        scratch_bytes(n_scratch, d),
    )
    if d % 32 == 0:
        return b.producer(out, op)
    op.raw["out"] = out.address  # 8-bit blocks would span heads: an op of their own
    return out
