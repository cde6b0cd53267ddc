"""Twins of what encoders alone compute, in float64 and one text at a time: attention of each token
over its text (kernels/ops/attention/both_ways.py), and pooling (kernels/ops/dense/pool.py)."""

from __future__ import annotations

import numpy as np


def both_ways(q, k, v, scale, window, slopes):
    """softmax(scale q k - slope |i - j|) v: q [n, n_head, d], k [n, n_head_kv, d], v [n, n_head_kv,
    v_dim] to [n, n_head, v_dim]. ``window``: how far a token sees to either side, 0: everywhere;
    slopes: [n_head]."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    n, n_head = q.shape[:2]
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    out = np.empty((n, n_head, v.shape[2]))
    for h in range(n_head):
        g = h * k.shape[1] // n_head
        scores = scale * q[:, h] @ k[:, g].T - slopes[h] * apart
        if window:
            scores[apart > window] = -np.inf
        p = np.exp(scores - scores.max(1, keepdims=True))
        out[:, h] = p @ v[:, g] / p.sum(1, keepdims=True)
    return out


def pooled(x, kind):
    """Rows [n, width] to their "mean", or the "first" or "last" of them."""
    x = np.asarray(x, np.float64)
    return {"mean": x.mean(0), "first": x[0], "last": x[-1]}[kind]
