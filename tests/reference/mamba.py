"""NumPy twins of kernels/ops/recurrent/mamba1.py and mamba2.py, in float64, token by token."""

from __future__ import annotations

import numpy as np


def silu(x):
    """x / (1 + e^-x)"""
    return x / (1.0 + np.exp(-x))


def mamba1(x, dt, z, b, c, a, d, dt_bias, state=None):
    """x, dt, z [T, n], b, c [T, N], a [n, N], d, dt_bias [n] -> y [T, n], state [n, N]."""
    state = np.zeros(a.shape) if state is None else state.astype(np.float64)
    dt = np.logaddexp(0.0, dt.astype(np.float64) + dt_bias)
    out = np.empty(x.shape)
    for t in range(len(x)):
        state = np.exp(dt[t, :, None] * a) * state + (dt[t] * x[t])[:, None] * b[t]
        out[t] = (state @ c[t] + d * x[t]) * silu(z[t].astype(np.float64))
    return out, state


def mamba2(x, dt, b, c, a, d, dt_bias, state=None):
    """x [T, H, P], dt [T, H], b, c [T, G, N], a, d, dt_bias [H] -> y [T, H, P], S [H, P, N]."""
    n_heads, n_groups = x.shape[1], b.shape[1]
    shape = (n_heads, x.shape[2], b.shape[2])
    state = np.zeros(shape) if state is None else state.astype(np.float64)
    dt = np.logaddexp(0.0, dt.astype(np.float64) + dt_bias)
    group = np.arange(n_heads) // (n_heads // n_groups)
    out = np.empty(x.shape)
    for t in range(len(x)):
        u = dt[t, :, None] * x[t]
        state = np.exp(dt[t] * a)[:, None, None] * state + u[..., None] * b[t, group, None, :]
        out[t] = np.einsum("hpn,hn->hp", state, c[t, group]) + d[:, None] * x[t]
    return out, state


def gated_norm(y, z, weight, n_groups, eps):
    """RMSNorm of y * silu(z) over each group of columns; without weight only the gate."""
    y = y.astype(np.float64) * silu(z.astype(np.float64))
    if weight is None:
        return y
    groups = y.reshape(len(y), n_groups, -1)
    groups = groups / np.sqrt((groups**2).mean(-1, keepdims=True) + eps)
    return groups.reshape(y.shape) * weight
