"""Llama and its kin (granite, smollm3, phi3) in float64, as their papers and model cards say.

Written from Vaswani 2017, Su 2021 (rotary), Shazeer 2020 (SwiGLU) and the configurations of
transformers, not from this runtime; weights are a dict by GGUF tensor name, matrices [out, in].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Config:
    """One model. ``inverse_frequencies`` [n_rot / 2]; ``no_rope``: layers without rotation."""

    n_layers: int
    n_head: int
    n_head_kv: int
    head_dim: int
    inverse_frequencies: np.ndarray
    neighbours: bool = True
    magnitude: float = 1.0  # of the rotation
    no_rope: set[int] = field(default_factory=set)
    eps: float = 1e-5
    window: int = 0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float = 0.0  # 0: 1 / sqrt(head_dim)
    logit_scale: float = 1.0  # divides
    n_used: int = 0  # experts of a token; 0: no experts
    is_smallthinker: bool = False  # sigmoid scores of a layer's input, ReGLU experts


def plain(n_rot, base=10000.0):
    """Inverse frequencies without scaling."""
    return 1.0 / base ** (np.arange(0, n_rot, 2) / n_rot)


def llama3(n_rot, base, factor, low, high, original):
    """Llama 3.1's factors for each frequency (what converters store as rope_freqs)."""
    factors = []
    for f in plain(n_rot, base):
        wavelength = 2 * math.pi / f
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1.0 / ((1 - smooth) / factor + smooth))
    return np.array(factors)


def yarn(n_rot, base, factor, original, beta_fast=32.0, beta_slow=1.0):
    """Inverse frequencies and magnitude (Peng et al. 2023), in the form of the paper's code."""

    def correction_dim(n_rotations):
        return n_rot * math.log(original / (n_rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(correction_dim(beta_fast)), 0)
    high = min(math.ceil(correction_dim(beta_slow)), n_rot - 1)
    mask = 1 - np.clip((np.arange(n_rot // 2) - low) / max(high - low, 0.001), 0, 1)
    f = plain(n_rot, base)
    return f / factor * (1 - mask) + f * mask, 0.1 * math.log(factor) + 1.0


def rms_norm(x, w, eps):
    """x / rms(x) * w"""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w


def silu(x):
    """x * sigmoid(x)"""
    return x / (1.0 + np.exp(-x))


def rotate(x, config):
    """x [T, heads, head_dim], positions 0 .. T-1."""
    half = len(config.inverse_frequencies)
    angle = np.arange(len(x))[:, None] * config.inverse_frequencies
    z = config.magnitude * np.exp(1j * angle)[:, None, :]
    out = x.copy()
    if config.neighbours:
        pairs = (x[..., 0 : 2 * half : 2] + 1j * x[..., 1 : 2 * half : 2]) * z
        out[..., 0 : 2 * half : 2], out[..., 1 : 2 * half : 2] = pairs.real, pairs.imag
    else:
        pairs = (x[..., :half] + 1j * x[..., half : 2 * half]) * z
        out[..., :half], out[..., half : 2 * half] = pairs.real, pairs.imag
    return out


class Transformer:
    """The model; ``logits(ids)`` computes a whole prompt."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = {name: np.asarray(w, np.float64) for name, w in weights.items()}

    def linear(self, x, name):
        """W x + b, if there is a b."""
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def qkv(self, h, blk):
        """q, k, v as [T, heads, head_dim]."""
        c = self.config
        if f"{blk}.attn_qkv.weight" in self.weights:
            n_q, n_kv = c.n_head * c.head_dim, c.n_head_kv * c.head_dim
            parts = np.split(self.linear(h, f"{blk}.attn_qkv"), [n_q, n_q + n_kv], axis=1)
        else:
            parts = [self.linear(h, f"{blk}.attn_{n}") for n in "qkv"]
        return [part.reshape(len(h), -1, c.head_dim) for part in parts]

    def attention(self, h, layer):
        """Grouped-query attention, causal, maybe in a window."""
        c = self.config
        q, k, v = self.qkv(h, f"blk.{layer}")
        if layer not in c.no_rope:
            q, k = rotate(q, c), rotate(k, c)
        k, v = (np.repeat(part, c.n_head // c.n_head_kv, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) * (c.attention_scale or c.head_dim**-0.5)
        distance = np.arange(len(h))[:, None] - np.arange(len(h))
        hidden = distance < 0
        if c.window:
            hidden |= distance >= c.window
        scores[:, hidden] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out = np.einsum("hqk,khd->qhd", weights, v).reshape(len(h), -1)
        return self.linear(out, f"blk.{layer}.attn_output")

    def ffn(self, h, blk, suffix=""):
        """SwiGLU, gate and up in one matrix or two."""
        if f"{blk}.ffn_gate{suffix}.weight" in self.weights:
            gate, up = (self.linear(h, f"{blk}.ffn_{n}{suffix}") for n in ("gate", "up"))
        else:
            gate, up = np.split(self.linear(h, f"{blk}.ffn_up"), 2, axis=1)
        return self.linear(silu(gate) * up, f"{blk}.ffn_down{suffix}")

    def moe(self, h, blk, before):
        """A softmax over the chosen experts' scores weights their SwiGLUs; plus a shared one.

        SmallThinker: sigmoids of what the layer began with (``before``), made to sum to 1."""
        w, out, is_small = self.weights, np.zeros(h.shape), self.config.is_smallthinker
        scores = self.linear(before if is_small else h, f"{blk}.ffn_gate_inp")
        for t, row in enumerate(scores):
            chosen = np.argsort(-row)[: self.config.n_used]
            share = np.exp(row[chosen] - row[chosen].max())
            if is_small:
                share = 1.0 / (1.0 + np.exp(-row[chosen]))
            for e, p in zip(chosen, share / share.sum(), strict=True):
                gate, up = (w[f"{blk}.ffn_{n}_exps.weight"][e] @ h[t] for n in ("gate", "up"))
                gate = np.maximum(gate, 0.0) if is_small else silu(gate)
                out[t] += p * (w[f"{blk}.ffn_down_exps.weight"][e] @ (gate * up))
        if f"{blk}.ffn_gate_shexp.weight" in w:
            out += self.ffn(h, blk, "_shexp")
        return out

    def logits(self, ids):
        """[T, n_vocab]"""
        c, w = self.config, self.weights
        x = w["token_embd.weight"][ids] * c.embedding_scale
        for layer in range(c.n_layers):
            blk = f"blk.{layer}"
            h, before = rms_norm(x, w[f"{blk}.attn_norm.weight"], c.eps), x
            x = x + c.residual_scale * self.attention(h, layer)
            h = rms_norm(x, w[f"{blk}.ffn_norm.weight"], c.eps)
            x = x + c.residual_scale * (self.moe(h, blk, before) if c.n_used else self.ffn(h, blk))
        h = rms_norm(x, w["output_norm.weight"], c.eps)
        output = "output" if "output.weight" in w else "token_embd"
        return self.linear(h, output) / c.logit_scale
