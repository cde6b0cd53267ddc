"""Plain NumPy twin of Kimi Delta Attention (Kimi Team 2025): float64, token by token."""

from __future__ import annotations

import numpy as np

from tests.reference.delta_net import sigmoid


def log_decay(f, a, dt_bias, bound):
    """Of a gate's rows f [T, H, d]: a softplus(f + dt) (Kimi Linear), or with a bound (Ling 3)
    bound * sigmoid(a (f + dt)); a [H], dt_bias [H, d]."""
    x = np.asarray(f, np.float64) + dt_bias
    a = np.asarray(a, np.float64)[:, None]
    return bound * sigmoid(a * x) if bound else a * np.logaddexp(0.0, x)


def kda(q, k, v, f, b, a, dt_bias, bound, eps, state=None):
    """q, k, v, f [T, H, d], b [T, H]: outputs [T, H, d] and the state [H, d, d]."""
    n_tokens, n_heads, d = v.shape
    q, k, v, b = (np.asarray(x, np.float64) for x in (q, k, v, b))
    decay = np.exp(log_decay(f, a, dt_bias, bound))
    s = np.zeros((n_heads, d, d)) if state is None else np.asarray(state, np.float64).copy()
    out = np.zeros((n_tokens, n_heads, d))
    for t in range(n_tokens):
        for h in range(n_heads):
            q_t = q[t, h] / np.sqrt(q[t, h] @ q[t, h] + eps) / np.sqrt(d)
            k_t = k[t, h] / np.sqrt(k[t, h] @ k[t, h] + eps)
            s[h] *= decay[t, h][:, None]
            u = sigmoid(b[t, h]) * (v[t, h] - s[h].T @ k_t)
            s[h] += np.outer(k_t, u)
            out[t, h] = s[h].T @ q_t
    return out, s
