"""RWKV-6 and RWKV-7 in float64 NumPy, token by token, from the published recurrences.

Peng et al., "Eagle and Finch" (2024) and "RWKV-7 Goose" (2025); written apart from llama.cpp's
graph and from our kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tools.golden.recipe import RwkvRecipe
from tools.golden.references.logits import F32

F64 = NDArray[np.float64]
GROUP_EPSILON = 64e-5  # 1e-5 times the square of the head's divisor, 8


def sigmoid(x: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-x)))


def normed(x: F64, gain: F64, bias: F64, epsilon: float) -> F64:
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return np.asarray(centred / scale * gain + bias)


class Rwkv:
    """One sequence: the previous token's inputs, and a matrix a head and layer."""

    def __init__(self, recipe: RwkvRecipe, weights: Mapping[str, F32]) -> None:
        self.recipe = recipe
        self.w: dict[str, F64] = {k: v.astype(np.float64) for k, v in weights.items()}
        self.n, self.head = recipe.dims["n_embd"], recipe.dims["head_size"]
        n_layer, n_head = recipe.dims["n_layer"], self.n // self.head
        self.shift = np.zeros((n_layer, 2, self.n))
        self.state = np.zeros((n_layer, n_head, self.head, self.head))
        self.first_v = np.zeros(self.n)
        self.mix: Callable[[int, F64, F64], F64] = (
            self.mix_rwkv6 if recipe.name == "rwkv6" else self.mix_rwkv7
        )

    def norm(self, x: F64, name: str) -> F64:
        return normed(x, self.w[name], self.w[f"{name}_b"], self.recipe.epsilon)

    def group_norm(self, y: F64, p: str) -> F64:
        """``y`` is [heads, head]; one group a head."""
        flat = normed(y, np.ones(1), np.zeros(1), GROUP_EPSILON).reshape(self.n)
        return flat * self.w[p + "lnx"] + self.w[p + "lnx_b"]

    def heads(self, x: F64) -> F64:
        return x.reshape(-1, self.head)

    def __call__(self, token: int) -> F64:
        """Logits of ``token``."""
        x = self.norm(self.w["emb"][token], "ln0")
        every = self.recipe.dims.get("rescale_every", 0)
        for i in range(self.recipe.dims["n_layer"]):
            now = self.norm(x, f"{i}.ln1")
            before, self.shift[i, 0] = self.shift[i, 0].copy(), now
            x = x + self.w[f"{i}.o"] @ self.mix(i, now, before - now)
            now = self.norm(x, f"{i}.ln2")
            before, self.shift[i, 1] = self.shift[i, 1].copy(), now
            x = x + self.feed_forward(f"{i}.", now, before - now)
            if every and (i + 1) % every == 0:
                x = x / 2
        return np.asarray(self.w["head"] @ self.norm(x, "lnf"))

    def feed_forward(self, p: str, x: F64, dx: F64) -> F64:
        w = self.w
        key = np.maximum(w[p + "cm_k"] @ (x + dx * w[p + "cm_xk"]), 0) ** 2
        out: F64 = w[p + "cm_v"] @ key
        if self.recipe.name == "rwkv6":
            out = out * sigmoid(w[p + "cm_r"] @ (x + dx * w[p + "cm_xr"]))
        return out

    def mix_rwkv6(self, i: int, x: F64, dx: F64) -> F64:
        w, p = self.w, f"{i}."
        low = np.tanh(w[p + "mix1"] @ (x + dx * w[p + "x"])).reshape(5, -1)
        mixed = {
            name: x + dx * (w[f"{p}x_{name}"] + w[p + "mix2"][j] @ low[j])
            for j, name in enumerate("wkvrg")
        }
        r, k, v = (self.heads(w[p + name] @ mixed[name]) for name in "rkv")
        gate: F64 = w[p + "g"] @ mixed["g"]
        slow = w[p + "dec0"] + w[p + "dec2"] @ np.tanh(w[p + "dec1"] @ mixed["w"])
        decay = self.heads(np.exp(-np.exp(slow)))
        out = np.zeros_like(r)
        for h, state in enumerate(self.state[i]):  # [key, value]
            kv = np.outer(k[h], v[h])
            out[h] = r[h] @ (state + w[p + "u"][h][:, None] * kv)
            self.state[i, h] = decay[h][:, None] * state + kv
        return self.group_norm(out, p) * (gate * sigmoid(gate))

    def mix_rwkv7(self, i: int, x: F64, dx: F64) -> F64:
        w, p = self.w, f"{i}."
        mixed = {name: x + dx * w[f"{p}x_{name}"] for name in "rwkvag"}
        r, k, v = (w[p + name] @ mixed[name] for name in "rkv")
        slow = w[p + "w0"] + w[p + "w2"] @ np.tanh(w[p + "w1"] @ mixed["w"])
        decay = self.heads(np.exp(-np.exp(-0.5) * sigmoid(slow)))
        if i == 0:
            self.first_v = v
        else:
            share = sigmoid(w[p + "v0"] + w[p + "v2"] @ (w[p + "v1"] @ mixed["v"]))
            v = v + (self.first_v - v) * share
        rate = sigmoid(w[p + "a0"] + w[p + "a2"] @ (w[p + "a1"] @ mixed["a"]))
        gate: F64 = w[p + "g2"] @ sigmoid(w[p + "g1"] @ mixed["g"])
        removed = self.heads(k * w[p + "kk"])
        removed = removed / np.maximum(np.linalg.norm(removed, axis=1, keepdims=True), 1e-12)
        k = k * (1 + (rate - 1) * w[p + "ka"])
        r, k, v, rate = (self.heads(a) for a in (r, k, v, rate))
        out = np.zeros_like(r)
        for h, state in enumerate(self.state[i]):  # [value, key]
            erased = np.outer(state @ -removed[h], removed[h] * rate[h])
            self.state[i, h] = state * decay[h][None] + erased + np.outer(v[h], k[h])
            out[h] = self.state[i, h] @ r[h]
        bonus: F64 = (r * k * w[p + "rk"]).sum(1, keepdims=True) * v
        return (self.group_norm(out, p) + bonus.reshape(self.n)) * gate


def logits(
    recipe: RwkvRecipe, weights: Mapping[str, F32], prompts: Sequence[Sequence[int]]
) -> list[F32]:
    """Of every position of each prompt: float32 [tokens, vocabulary]."""
    out = []
    for prompt in prompts:
        sequence = Rwkv(recipe, weights)
        out.append(np.stack([sequence(token) for token in prompt]).astype(np.float32))
    return out
