"""Plain NumPy twin of kernels/ops/moe/route.py and experts.py: float64, token by token."""

from __future__ import annotations

import numpy as np


def softmax(x):
    """Of the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def without_other_groups(ranking, n_groups, n_groups_used):
    """Minus infinity but in the groups of neighbours whose two best are largest in sum."""
    groups = ranking.reshape(len(ranking), n_groups, -1)
    worth = np.sort(groups, axis=2)[:, :, -2:].sum(2)
    best = np.argsort(-worth, axis=1, kind="stable")[:, :n_groups_used]
    kept = np.full_like(groups, -np.inf)
    for t, chosen in enumerate(best):
        kept[t, chosen] = groups[t, chosen]
    return kept.reshape(ranking.shape)


def sparsemixer(x, ids):
    """Weights of the experts ids [T, n_used], one after the other, of logits x [T, n_expert]."""
    rest, weights = x.copy(), np.zeros(ids.shape)
    for rank in range(ids.shape[1]):
        top = np.take_along_axis(rest, ids[:, rank : rank + 1], 1)
        is_near = (top - rest) / np.maximum(np.abs(x), top) <= 0.02
        near = np.where(is_near, rest, -np.inf)
        weights[:, rank] = 1.0 / np.exp(near - top).sum(1)
        np.put_along_axis(rest, ids[:, rank : rank + 1], -np.inf, 1)
    return weights


def route(
    logits,
    n_used,
    *,
    scores="softmax",
    bias=None,
    renormalise=True,
    scale=1.0,
    n_groups=1,
    n_groups_used=1,
    expert_scale=None,
):
    """The chosen experts of each token, best first, and their weights: [T, n_used] each."""
    x = np.asarray(logits, np.float64)
    p = {"softmax": softmax, "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x))}
    p = p.get(scores, lambda x: x)(x)
    ranking = p if bias is None else p + bias
    if n_groups_used < n_groups:
        ranking = without_other_groups(ranking, n_groups, n_groups_used)
    ids = np.argsort(-ranking, axis=1, kind="stable")[:, :n_used]
    weights = np.take_along_axis(p, ids, 1)
    if scores == "chosen":
        weights = softmax(weights)
    if scores == "sparsemixer":
        weights = sparsemixer(x, ids)
    if renormalise:
        weights = weights / weights.sum(1, keepdims=True)
    return ids, weights * scale * (1.0 if expert_scale is None else expert_scale[ids])


def activate(name, gate, up):
    """act(gate) * up, or act(up) without a gate; gpt-oss clamps both and adds 1 to up."""
    if name == "swiglu_oai":
        g, u = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0)
        return g / (1.0 + np.exp(-1.702 * g)) * (u + 1.0)
    x = up if gate is None else gate
    y = {
        "silu": lambda x: 0.5 * x * (1.0 + np.tanh(0.5 * x)),
        "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
        "relu2": lambda x: np.maximum(x, 0.0) ** 2,
        "relu": lambda x: np.maximum(x, 0.0),
    }[name](x)
    return y if gate is None else y * up


def moe(x, ids, weights, gate, up, down, activation="silu", biases=(None, None, None)):
    """sum over ranks of weight * down(act(gate x) * up x); matrices [n_expert, n_out, n_in], biases
    of gate, up and down [n_expert, n_out]."""
    x = np.asarray(x, np.float64)
    out = np.zeros((len(x), down.shape[1]))
    of_gate, of_up, of_down = (np.zeros((len(down), 1)) if b is None else b for b in biases)
    for t in range(len(x)):
        for e, weight in zip(ids[t], weights[t], strict=True):
            g = None if gate is None else gate[e] @ x[t] + of_gate[e]
            hidden = activate(activation, g, up[e] @ x[t] + of_up[e])
            out[t] += weight * (down[e] @ hidden + of_down[e])
    return out
