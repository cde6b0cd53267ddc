"""What the written models share with a model of transformers: filled, saved, asked for logits."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tools.golden.model.weights import Draw


class Written(nn.Module):
    """A causal language model; ``run`` is its forward in float64, of one sequence."""

    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__()
        self.published = dict(config)
        self.config = SimpleNamespace(**config)

    def run(self, ids: Tensor) -> Tensor:
        """Logits [tokens, vocabulary] of token ids."""
        raise NotImplementedError

    def draw(self, p: Draw) -> Tensor | None:
        """A parameter's values where the common rules will not do."""
        return None

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        return SimpleNamespace(logits=copy.deepcopy(self).double().run(input_ids[0])[None])

    def save_pretrained(self, folder: Path) -> None:
        """Weights as they are named here, and config.json."""
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.published, indent=1))

    def tie_weights(self) -> None:
        """Nothing is tied that is stored twice."""


def parameter(*shape: int) -> nn.Parameter:
    """One that is filled later."""
    return nn.Parameter(torch.zeros(shape))


def linear(n_in: int, n_out: int, bias: bool = False) -> nn.Linear:
    return nn.Linear(n_in, n_out, bias=bias)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (weight + offset)"""

    def __init__(self, n: int, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight, self.eps, self.offset = parameter(n), eps, offset

    def forward(self, x: Tensor) -> Tensor:
        return rms_normed(x, self.eps) * (self.weight + self.offset)


def rms_normed(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class Mlp(nn.Module):
    """down(silu(gate x) * up x)"""

    def __init__(self, n: int, n_ff: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = linear(n, n_ff), linear(n, n_ff)
        self.down_proj = linear(n_ff, n)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return hidden


def before(x: Tensor) -> Tensor:
    """The previous token's row, zeros before the first."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def rotated(x: Tensor, base: float) -> Tensor:
    """Rotary embedding of x [tokens, heads, d]: dimensions i and i + d/2 together."""
    half = x.shape[-1] // 2
    angles = torch.arange(len(x), dtype=x.dtype)[:, None] * base ** (
        -torch.arange(half, dtype=x.dtype) / half
    )
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def attended(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal softmax attention; q [tokens, heads, d], k and v with as many heads or fewer."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    mask = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
    shares = scores.masked_fill(mask, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", shares, v).flatten(1)
