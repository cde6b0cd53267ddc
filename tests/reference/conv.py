"""NumPy twin of kernels/ops/recurrent/conv.py."""

from __future__ import annotations

import numpy as np


def short_conv(x, weight, bias=None, *, silu=False, factor=None, gate=None, window=None):
    """x [T, n], weight [K, n], window [K - 1, n] (None: zeros) -> out [T, n], new window."""
    n_past = weight.shape[0] - 1
    u = x.astype(np.float64) * (1.0 if factor is None else factor)
    past = np.zeros((n_past, x.shape[1])) if window is None else window.astype(np.float64)
    u = np.concatenate([past, u])
    out = sum(weight[k] * u[k : k + len(x)] for k in range(n_past + 1))
    if bias is not None:
        out = out + bias
    if silu:
        out = out / (1.0 + np.exp(-out))
    if gate is not None:
        out = out * gate
    return out, u[len(u) - n_past :]
