"""The causal short convolution of recurrent layers (see kernels/ops/recurrent/conv.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slotmux.kernels.ops.recurrent.conv import Conv, padded_channels
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
    dilation: int = 1,
    factor: Rows | None = None,
    gate: Rows | None = None,
    name: str = "conv",
) -> Rows:
    """act(conv(x * factor) + bias) * gate; ``weight`` [n_taps, channels] and ``bias`` are tensors;
    several weights are of as many channels each, side by side in x; of ``dilation`` tokens that
    follow each other one has a tap."""
    n = x.width
    # The file has a channel's taps together; a vector of channels reads one tap at a time.
    # Taps between those of the file are zeros: one more term that changes no sum.
    n_places = (n_taps - 1) * dilation + 1
    taps = np.zeros((n_places, padded_channels(n)), np.float32)
    if isinstance(weight, str):
        taps[::dilation, :n] = b.weights.vector(weight, n_taps, n).T
    else:
        each = n // len(weight)
        parts = [b.weights.vector(name, n_taps, 1, each) for name in weight]
        taps[::dilation, :n] = np.concatenate(parts).reshape(n, n_taps).T
    out = b.buffers.rows(name, n)
    assert all(rows.width == n for rows in (factor, gate) if rows is not None)
    b.append(
        Conv(
            n_taps=n_places,
            activation="silu" if silu else "plain",
            x=x,
            factor=factor,
            gate=gate,
            weight=b.weights.constant(taps),
            bias=None if bias is None else b.weights.vector(bias, n),
            out=out,
        )
    )
    return out
