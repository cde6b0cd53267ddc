"""Plain NumPy twins of the delta net and its gated norm: float64, token by token."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    """1 / (1 + e^-x)"""
    return 1.0 / (1.0 + np.exp(-x))


def delta_net(q, k, v, alpha, b, a, dt_bias, k_heads, eps, state=None):
    """q, k [T, Hk, d], v [T, H, d], alpha, b [T, H]: outputs [T, H, d] and the state [H, d, d]."""
    n_tokens, n_heads, d = v.shape
    q, k, v, alpha, b = (np.asarray(x, np.float64) for x in (q, k, v, alpha, b))
    s = np.zeros((n_heads, d, d)) if state is None else np.asarray(state, np.float64).copy()
    out = np.zeros((n_tokens, n_heads, d))
    for t in range(n_tokens):
        for h in range(n_heads):
            q_t, k_t = q[t, k_heads[h]], k[t, k_heads[h]]
            q_t = q_t / np.sqrt(q_t @ q_t + eps) / np.sqrt(d)
            k_t = k_t / np.sqrt(k_t @ k_t + eps)
            s[h] *= np.exp(a[h] * np.logaddexp(0.0, alpha[t, h] + dt_bias[h]))
            u = sigmoid(b[t, h]) * (v[t, h] - s[h].T @ k_t)
            s[h] += np.outer(k_t, u)
            out[t, h] = s[h].T @ q_t
    return out, s


def gated_norm(x, z, weight, eps, activation="silu"):
    """RMS norm of x [T, H, d] over d, times weight, times the activation of z (silu, sigmoid)."""
    x, z = np.asarray(x, np.float64), np.asarray(z, np.float64)
    scale = 1.0 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    gate = sigmoid(z) if activation == "sigmoid" else z * sigmoid(z)
    return x * scale * weight * gate
