"""ARWKV: Qwen2 whose attention is RWKV-7's time mixing, with or without its norm and its gate.

The recurrence of Peng et al., "RWKV-7 Goose" (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from tools.golden.model.weights import Draw
from tools.golden.written.base import Mlp, RmsNorm, Written, before, linear, parameter

# The converter does not ask config.json for these.
RANKS = {"w": 64, "a": 64, "v": 32, "g": 128}
GROUP_EPSILON = 64e-5


class TimeMix(nn.Module):
    def __init__(self, config: SimpleNamespace, is_first: bool) -> None:
        super().__init__()
        n, self.d = config.hidden_size, config.head_size
        self.has_gate, self.is_first = config.wkv_has_gate, is_first
        for part in "rwkva" + "g" * self.has_gate:
            setattr(self, f"x_{part}", parameter(1, 1, n))
        for part in "wa" + "v" * (not is_first) + "g" * self.has_gate:
            setattr(self, f"{part}1", parameter(n, RANKS[part]))
            setattr(self, f"{part}2", parameter(RANKS[part], n))
            if part != "g":
                setattr(self, f"{part}0", parameter(1, 1, n))
        self.k_k, self.k_a = parameter(1, 1, n), parameter(1, 1, n)
        self.r_k = parameter(n // self.d, self.d)
        self.receptance, self.key, self.value = linear(n, n), linear(n, n), linear(n, n)
        self.output = linear(n, n)
        if config.wkv_has_group_norm:
            self.ln_x = nn.GroupNorm(n // self.d, n, eps=GROUP_EPSILON)

    def low_rank(self, part: str, x: Tensor, activation: nn.Module | None = None) -> Tensor:
        low = x @ getattr(self, f"{part}1")
        out: Tensor = (low if activation is None else activation(low)) @ getattr(self, f"{part}2")
        return out

    def forward(self, x: Tensor, v_first: Tensor | None) -> tuple[Tensor, Tensor]:
        dx, shape = before(x) - x, (len(x), -1, self.d)
        mixed = {part: x + dx * getattr(self, f"x_{part}")[0] for part in "rwkva"}
        r, k, v = self.receptance(mixed["r"]), self.key(mixed["k"]), self.value(mixed["v"])
        slow = self.w0[0] + self.low_rank("w", mixed["w"], nn.Tanh())
        decay = torch.exp(-torch.exp(x.new_tensor(-0.5)) * torch.sigmoid(slow)).view(shape)
        if v_first is not None:
            v = v + (v_first - v) * torch.sigmoid(self.v0[0] + self.low_rank("v", mixed["v"]))
        rate = torch.sigmoid(self.a0[0] + self.low_rank("a", mixed["a"]))
        removed = nn.functional.normalize((k * self.k_k[0]).view(shape), dim=-1, eps=1e-12)
        k = (k * (1 + (rate - 1) * self.k_a[0])).view(shape)
        r, values, rate = r.view(shape), v.view(shape), rate.view(shape)
        state, rows = x.new_zeros(r.shape[1], self.d, self.d), []  # [head, value, key]
        for t in range(len(x)):
            erased = (state @ -removed[t][:, :, None]) * (removed[t] * rate[t])[:, None]
            state = state * decay[t][:, None] + erased + values[t][:, :, None] * k[t][:, None]
            rows.append((state @ r[t][:, :, None]).flatten())
        out = torch.stack(rows)
        if hasattr(self, "ln_x"):
            out = self.ln_x(out)
        out = out + ((r * k * self.r_k).sum(-1, keepdim=True) * values).flatten(1)
        if self.has_gate:
            out = out * self.low_rank("g", x + dx * self.x_g[0], nn.Sigmoid())
        return self.output(out), v


class Layer(nn.Module):
    def __init__(self, config: SimpleNamespace, is_first: bool) -> None:
        super().__init__()
        n, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(n, eps), RmsNorm(n, eps)
        self.self_attn = nn.ModuleDict({"time_mixer": TimeMix(config, is_first)})
        self.mlp = Mlp(n, config.intermediate_size)


class Trunk(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        n_layers = config.num_hidden_layers
        self.layers = nn.ModuleList(Layer(config, is_first=i == 0) for i in range(n_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class Model(Written):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__(config)
        self.model = Trunk(self.config)
        self.lm_head = linear(self.config.hidden_size, self.config.vocab_size)

    def draw(self, p: Draw) -> Tensor | None:
        if p.leaf.startswith("x_"):
            return p.uniform(0, 1)
        if p.leaf in ("w0", "a0", "v0"):
            return p.normal(0.8, -0.5)
        if p.leaf in ("k_k", "k_a"):
            return p.normal(0.3, 0.9)
        if p.leaf == "r_k":
            return p.normal(0.4)
        if "ln_x" in p.name:
            return p.normal(0.1) if p.leaf == "bias" else p.normal(0.2, 1.0)
        if p.leaf in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"):
            # Stored [in, out]: what they multiply keeps its size.
            return p.normal((2.0 if p.leaf == "g2" else 1.0) * p.shape[0] ** -0.5)
        return None

    def run(self, ids: Tensor) -> Tensor:
        x, v_first = self.model.embed_tokens(ids), None
        for layer in self.model.layers:
            y, v = layer.self_attn["time_mixer"](layer.input_layernorm(x), v_first)
            v_first = v if v_first is None else v_first
            x = x + y
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        out: Tensor = self.lm_head(self.model.norm(x))
        return out
