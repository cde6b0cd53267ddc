"""Plain NumPy twin of kernels/ops/moe/route.py and experts.py: float64, token by token."""

from __future__ import annotations

import numpy as np


def route(logits, n_used, *, scores="softmax", bias=None, renormalise=True, scale=1.0):
    """The chosen experts of each token, best first, and their weights: [T, n_used] each."""
    x = np.asarray(logits, np.float64)
    if scores == "softmax":
        e = np.exp(x - x.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
    else:
        p = 1.0 / (1.0 + np.exp(-x))
    ranking = p if bias is None else p + bias
    ids = np.argsort(-ranking, axis=1, kind="stable")[:, :n_used]
    weights = np.take_along_axis(p, ids, 1)
    if renormalise:
        weights = weights / weights.sum(1, keepdims=True)
    return ids, weights * scale


def activate(name, gate, up):
    """act(gate) * up, or act(up) without a gate."""
    x = up if gate is None else gate
    y = {
        "silu": lambda x: 0.5 * x * (1.0 + np.tanh(0.5 * x)),
        "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
        "relu2": lambda x: np.maximum(x, 0.0) ** 2,
    }[name](x)
    return y if gate is None else y * up


def moe(x, ids, weights, gate, up, down, activation="silu"):
    """sum over ranks of weight * down(act(gate x) * up x); matrices [n_expert, n_out, n_in]."""
    x = np.asarray(x, np.float64)
    out = np.zeros((len(x), down.shape[1]))
    for t in range(len(x)):
        for expert, weight in zip(ids[t], weights[t], strict=True):
            g = None if gate is None else gate[expert] @ x[t]
            out[t] += weight * (down[expert] @ activate(activation, g, up[expert] @ x[t]))
    return out
