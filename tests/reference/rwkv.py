"""Twins of the RWKV kernels, token by token in float64 as the papers write them."""

from __future__ import annotations

import numpy as np

from tests.reference.norms import layer_norm


def token_shift(x, last=None):
    """Previous token's x minus x, and the new last x; x [T, n]."""
    last = np.zeros(x.shape[1]) if last is None else last
    return np.concatenate([last[None], x[:-1]]) - x, x[-1]


def wkv6(r, k, v, w, g, u, weight, bias, eps, state=None):
    """y [T, H, d] and the state [H, d (key), d (value)]; inputs [T, H, d], vectors [H, d]."""
    n_tokens, n_heads, d = r.shape
    state = np.zeros((n_heads, d, d)) if state is None else state.copy()
    y = np.zeros(r.shape)
    for t in range(n_tokens):
        kv = k[t, :, :, None] * v[t, :, None, :]
        y[t] = np.einsum("hi,hij->hj", r[t], state + u[:, :, None] * kv)
        state = w[t, :, :, None] * state + kv
    return layer_norm(y, weight, bias, eps) * g / (1.0 + np.exp(-g)), state


def gated_linear(r, k, v, w, g, state=None):
    """y [T, H, d] and the state [H, d (key), d (value)]; r, w, g [T, H, d], k and v [T, groups,
    d]."""
    n_tokens, n_heads, d = r.shape
    k, v = (np.repeat(x, n_heads // x.shape[1], 1) for x in (k, v))
    state = np.zeros((n_heads, d, d)) if state is None else state.copy()
    y = np.zeros(r.shape)
    for t in range(n_tokens):
        added = ((1.0 - w[t]) * k[t])[:, :, None] * v[t, :, None, :]
        state = w[t, :, :, None] * state + added
        y[t] = np.einsum("hi,hij->hj", r[t], state) / np.sqrt(d)
    return y / (1.0 + np.exp(-g)), state


def wkv7(r, k, v, w, a, g, k_k, k_a, r_k, weight, bias, eps, state=None):
    """y [T, H, d] and the state [H, d (key), d (value)], which is the paper's S transposed.
    ARWKV has no norm, or no gate."""
    n_tokens, n_heads, d = r.shape
    s = np.zeros((n_heads, d, d)) if state is None else state.transpose(0, 2, 1).copy()
    kk = k * k_k
    kk = kk / np.maximum(np.sqrt((kk**2).sum(-1, keepdims=True)), 1e-12)
    k = k * (1.0 + (a - 1.0) * k_a)
    y = np.zeros(r.shape)
    for t in range(n_tokens):
        removed = np.einsum("hvk,hk->hv", s, -kk[t])
        s = s * w[t, :, None, :]
        s = s + removed[:, :, None] * (kk[t] * a[t])[:, None, :]
        s = s + v[t, :, :, None] * k[t, :, None, :]
        y[t] = np.einsum("hvk,hk->hv", s, r[t])
    bonus = (r * k * r_k).sum(-1, keepdims=True) * v
    normed = y if weight is None else layer_norm(y, weight, bias, eps)
    return (normed + bonus) * (1.0 if g is None else g), s.transpose(0, 2, 1)
