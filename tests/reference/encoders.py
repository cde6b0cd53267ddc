"""Encoders that have no golden model, in float64 and one text at a time: what their files mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Config:
    """``kind``: the architecture."""

    kind: str
    n_layers: int
    n_head: int
    n_head_kv: int
    head_dim: int
    eps: float
    base: float = 10000.0
    n_used: int = 0  # experts
    every: int = 0  # layers to one with experts


def erf(x: F64) -> F64:
    """By the series of Abramowitz & Stegun 7.1.5, which converges everywhere."""
    total, term = x.copy(), x.copy()
    for n in range(1, 120):
        term = term * -(x * x) / n
        total += term / (2 * n + 1)
    return total * 2 / np.sqrt(np.pi)


def gelu(x: F64) -> F64:
    return 0.5 * x * (1 + erf(np.clip(x, -6, 6) / np.sqrt(2)))


def silu(x: F64) -> F64:
    return x / (1 + np.exp(-x))


class Encoder:
    """Rows of the last layer, [n_tokens, n_embd]."""

    def __init__(self, config: Config, weights: Weights) -> None:
        self.c, self.w = config, {k: v.astype(np.float64) for k, v in weights.items()}

    def rows(self, tokens: list[int], types: list[int] | None = None) -> F64:
        x = self.w["token_embd.weight"][tokens]
        if "token_types.weight" in self.w:
            x = x + self.w["token_types.weight"][types or [0] * len(tokens)]
        if self.c.kind == "llama-embed":
            return self._pre_norm(x)
        x = self._layer_norm(x, "token_embd_norm")
        for i in range(self.c.n_layers):
            blk = f"blk.{i}."
            a = self._attention(x, blk)
            x = self._layer_norm(x + self._linear(a, blk + "attn_output"), blk + "attn_output_norm")
            x = self._layer_norm(x + self._feed_forward(x, blk, i), blk + "layer_output_norm")
        return x

    def _pre_norm(self, x: F64) -> F64:
        for i in range(self.c.n_layers):
            blk = f"blk.{i}."
            a = self._attention(self._rms(x, blk + "attn_norm"), blk)
            x = x + self._linear(a, blk + "attn_output")
            h = self._rms(x, blk + "ffn_norm")
            f = silu(self._linear(h, blk + "ffn_gate")) * self._linear(h, blk + "ffn_up")
            x = x + self._linear(f, blk + "ffn_down")
        return self._rms(x, "output_norm")

    def _linear(self, x: F64, name: str) -> F64:
        y = x @ self.w[f"{name}.weight"].T
        return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

    def _layer_norm(self, x: F64, name: str) -> F64:
        centred = x - x.mean(1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(1, keepdims=True) + self.c.eps)
        return y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def _rms(self, x: F64, name: str) -> F64:
        return x / np.sqrt((x**2).mean(1, keepdims=True) + self.c.eps) * self.w[f"{name}.weight"]

    def _attention(self, x: F64, blk: str) -> F64:
        c, n = self.c, len(x)
        heads = (c.n_head, c.n_head_kv, c.n_head_kv)
        q, k, v = (
            self._linear(x, f"{blk}attn_{name}").reshape(n, count, c.head_dim)
            for name, count in zip("qkv", heads, strict=True)
        )
        apart = np.abs(np.arange(n)[:, None] - np.arange(n)[None])
        if c.kind != "jina-bert-v2":
            q, k = self._rotated(q), self._rotated(k)
        out = np.zeros((n, c.n_head, c.head_dim))
        for h in range(c.n_head):
            group = h * c.n_head_kv // c.n_head
            scores = q[:, h] @ k[:, group].T / np.sqrt(c.head_dim)
            if c.kind == "jina-bert-v2":
                scores = scores - slope(h, c.n_head) * apart
            p = np.exp(scores - scores.max(1, keepdims=True))
            out[:, h] = p / p.sum(1, keepdims=True) @ v[:, group]
        return out.reshape(n, -1)

    def _rotated(self, x: F64) -> F64:
        d = self.c.head_dim
        angle = np.arange(len(x))[:, None] * self.c.base ** (-2 * np.arange(d // 2) / d)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        if self.c.kind == "llama-embed":
            a, b = x[..., 0::2], x[..., 1::2]
            out[..., 0::2], out[..., 1::2] = a * cos - b * sin, a * sin + b * cos
        else:
            a, b = x[..., : d // 2], x[..., d // 2 :]
            out[..., : d // 2], out[..., d // 2 :] = a * cos - b * sin, a * sin + b * cos
        return out

    def _feed_forward(self, x: F64, blk: str, layer: int) -> F64:
        if self.c.kind == "jina-bert-v2":
            both = self._linear(x, blk + "ffn_up")
            n = both.shape[1] // 2
            return self._linear(gelu(both[:, :n]) * both[:, n:], blk + "ffn_down")
        if self.c.every and layer % self.c.every == 1:
            return self._experts(x, blk)
        return self._linear(gelu(self._linear(x, blk + "ffn_up")), blk + "ffn_down")

    def _experts(self, x: F64, blk: str) -> F64:
        logits = self._linear(x, blk + "ffn_gate_inp")
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        out = np.zeros_like(x)
        for t, row in enumerate(p):
            for e in np.argsort(-row)[: self.c.n_used]:
                hidden = gelu(self.w[f"{blk}ffn_up_exps.weight"][e] @ x[t])
                out[t] += row[e] * (self.w[f"{blk}ffn_down_exps.weight"][e] @ hidden)
        return out


def slope(head: int, n_head: int) -> float:
    """ALiBi's, as its authors' code has them."""
    n = 2 ** int(np.log2(n_head))
    if head < n:
        return float(2.0 ** (-8.0 * (head + 1) / n))
    return float(2.0 ** (-4.0 * (2 * (head - n) + 1) / n))
