"""The pieces of a layer that look at one token at a time, or at one chunk: what torch.compile gets.

Weights are arguments, so that all layers share one compiled piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.demo import delta


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last axis, in float32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def linear(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """x W^T with both in ``dtype``."""
    return F.linear(x.to(dtype), weight.to(dtype))


def norm_linears(
    x: Tensor, norm: Tensor, weights: list[Tensor], eps: float, dtype: torch.dtype
) -> list[Tensor]:
    """Several matrices of one normalised input."""
    h = rms_norm(x, norm, eps).to(dtype)
    y = F.linear(h, torch.cat([w.to(dtype) for w in weights]))
    return list(y.split([len(w) for w in weights], -1))


def ffn(
    x: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """x + SwiGLU(norm(x))"""
    g, u = norm_linears(x, norm, [gate, up], eps, dtype)
    return x + linear(F.silu(g) * u, down, dtype).float()


def causal_conv(x: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    """silu of a short causal convolution, channel by channel; x [n, C] of whole rows one after the
    other, their positions [n, 1], weight [C, taps]."""
    n_taps = weight.shape[1]
    padded = F.pad(x, (0, 0, n_taps - 1, 0)).float()
    y = x.float() * weight[:, -1]
    for back in range(1, n_taps):
        earlier = padded[n_taps - 1 - back : len(padded) - back]
        y = y + torch.where(positions >= back, earlier, 0.0) * weight[:, n_taps - 1 - back]
    return F.silu(y).to(x.dtype)


def delta_heads(
    qkv: Tensor, alpha: Tensor, beta: Tensor, a: Tensor, dt_bias: Tensor, d: int, eps: float
) -> tuple[Tensor, ...]:
    """q, k, v [G, H, C, d], beta and summed decay [G, H, C] of tokens qkv [G C, 3 H d], and A."""
    c = delta.CHUNK
    q, k, v = (x.float().view(-1, c, x.shape[-1] // d, d).transpose(1, 2) for x in qkv.chunk(3, -1))
    q = q * torch.rsqrt(q.pow(2).sum(-1, keepdim=True) + eps) * d**-0.5
    k = k * torch.rsqrt(k.pow(2).sum(-1, keepdim=True) + eps)
    rate = torch.sigmoid(beta.float()).view(-1, c, q.shape[1]).transpose(1, 2)
    decay = a * F.softplus(alpha.float() + dt_bias)
    decay = decay.view(-1, c, q.shape[1]).transpose(1, 2).cumsum(-1)
    return q, k, v, rate, decay, delta.chunk_scores(k, rate, decay)


def delta_output(
    x: Tensor, parts: tuple[Tensor, Tensor, Tensor], z: Tensor, norm: Tensor, out: Tensor,
    eps: float, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """x + out(norm(Q S + O) * silu(z)); x [n, n_embd], the parts by chunks [G, H, C, d]."""
    q, states, own = parts
    o = rms_norm((q @ states + own).transpose(1, 2), norm, eps)
    o = o.reshape(*z.shape) * F.silu(z.float())
    return x + linear(o, out, dtype).float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor, n_rot: int) -> Tensor:
    """NEOX rotation of the first ``n_rot`` dimensions; x [n, H, d], cos and sin [n, 1, n_rot/2]."""
    a, b, rest = x.split([n_rot // 2, n_rot // 2, x.shape[-1] - n_rot], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


def attention_heads(
    q_gate: Tensor, k: Tensor, v: Tensor, norms: tuple[Tensor, Tensor],
    rope: tuple[Tensor, Tensor, int], head_dim: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """q, k, v [n, H, d] ready for attention, and the gate [n, H d]."""
    n, dtype = len(k), k.dtype
    q, gate = q_gate.view(n, -1, 2, head_dim).unbind(2)
    k, v = k.view(n, -1, head_dim), v.view(n, -1, head_dim)
    n_shared = q.shape[1] // k.shape[1]
    q = rotate(rms_norm(q, norms[0], eps), *rope).to(dtype)
    k = rotate(rms_norm(k, norms[1], eps), *rope).to(dtype)
    k, v = (y.repeat_interleave(n_shared, 1) for y in (k, v))
    return q, k, v, gate.reshape(n, -1)


def attention_output(x: Tensor, o: Tensor, gate: Tensor, out: Tensor, dtype: torch.dtype) -> Tensor:
    """x + out(attention * sigmoid(gate)); o [n, H d]."""
    o = o * torch.sigmoid(gate)
    return x + linear(o, out, dtype).float()


def head_loss(h: Tensor, output: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    """Cross-entropy of every token: h [n, n_embd], target [n]."""
    return F.cross_entropy(linear(h, output, dtype).float(), target, reduction="none")


class Parts:
    """The functions above, plain or compiled."""

    def __init__(self, compiled: bool = False) -> None:
        wrap: Callable[..., Any] = _compiled if compiled else _plain
        self.norm_linears = wrap(norm_linears)
        self.ffn = wrap(ffn)
        self.causal_conv = wrap(causal_conv)
        self.delta_heads = wrap(delta_heads)
        self.chunk_terms = wrap(delta.chunk_terms)
        self.delta_output = wrap(delta_output)
        self.attention_heads = wrap(attention_heads)
        self.attention_output = wrap(attention_output)
        self.head_loss = wrap(head_loss)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)
