"""The causal short convolution of recurrent layers (see kernels/ops/recurrent/conv.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slotmux.kernels.ops.recurrent.conv import (
    CONV,
    build_conv,
    padded_channels,
    pending_floats,
    state_floats,
)
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder


def short_conv(
    b: Builder,
    x: Rows,
    weight: str | Sequence[str],
    n_taps: int,
    *,
    bias: str | None = None,
    silu: bool = False,
    factor: Rows | None = None,
    gate: Rows | None = None,
    name: str = "conv",
) -> Rows:
    """act(conv(x * factor) + bias) * gate; ``weight`` [n_taps, channels] and ``bias`` are tensors;
    several weights are of as many channels each, side by side in x.

    A consumer that reads the floats (all but ``b.linear``) takes ```` of the result
    before ``.columns()``.
    """
    n = x.width
    # The file has a channel's taps together; a vector of channels reads one tap at a time.
    taps = np.zeros((n_taps, padded_channels(n)), np.float32)
    if isinstance(weight, str):
        taps[:, :n] = b.weights.vector(weight, n_taps, n).T
    else:
        each = n // len(weight)
        parts = [b.weights.vector(name, n_taps, 1, each) for name in weight]
        taps[:, :n] = np.concatenate(parts).reshape(n, n_taps).T
    out = b.buffers.rows(name, n)
    factors = [rows for rows in (factor, gate) if rows is not None]
    assert all(rows.width == n for rows in factors)
    op = b.append_recurrent(
        f"conv.{n_taps}.{'silu' if silu else 'plain'}",
        lambda: build_conv(n_taps, silu),
        CONV,
        {
            "x": x.address,
            "x_stride": x.stride,
            "factor": factor.address if factor else 0,
            "factor_stride": factor.stride if factor else 0,
            "gate": gate.address if gate else 0,
            "gate_stride": gate.stride if gate else 0,
            "weight": b.weights.constant(taps),
            "bias": 0 if bias is None else b.weights.vector(bias, n),
            "n": n,
            "out": 0,
            "out_stride": out.stride,
            "tiles": 0,
        },
        [x.span, *(rows.span for rows in factors)],
        [out.span],
        state_floats(n_taps, n),
        pending_floats(n),
    )
    return b.producer(out, op)
