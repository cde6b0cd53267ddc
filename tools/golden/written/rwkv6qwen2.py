"""QRWKV6: Qwen2 whose attention is gated linear attention with RWKV-6's mixing and decay.

The recurrence of Yang et al., "Gated Linear Attention Transformers" (2023), with decays of Peng et
al., "Eagle and Finch" (2024); keys are multiplied by 1 - w.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from tools.golden.model.weights import Draw
from tools.golden.written.base import Mlp, RmsNorm, Written, before, linear, parameter

PARTS = "rkvwg"  # order of time_maa_w1 and w2 in checkpoints


class TimeMix(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        n, self.n_heads = config.hidden_size, config.num_attention_heads
        self.d = n // self.n_heads
        n_kv = self.d * config.num_key_value_heads
        mix, decay = config.lora_rank_tokenshift, config.lora_rank_decay
        for name in ("x", *PARTS):
            setattr(self, f"time_maa_{name}", parameter(1, 1, n))
        self.time_maa_w1, self.time_maa_w2 = parameter(n, 5 * mix), parameter(5, mix, n)
        self.time_decay = parameter(1, 1, n)
        self.time_decay_w1, self.time_decay_w2 = parameter(n, decay), parameter(decay, n)
        self.q_proj = linear(n, n, bias=True)
        self.k_proj, self.v_proj = linear(n, n_kv, bias=True), linear(n, n_kv, bias=True)
        self.gate, self.o_proj = linear(n, n), linear(n, n)

    def mixed(self, x: Tensor) -> dict[str, Tensor]:
        """Each part's input, between the token's own and the one before."""
        dx = before(x) - x
        low = torch.tanh((x + dx * self.time_maa_x[0]) @ self.time_maa_w1).chunk(5, -1)
        return {
            part: x + dx * (getattr(self, f"time_maa_{part}")[0] + low[i] @ self.time_maa_w2[i])
            for i, part in enumerate(PARTS)
        }

    def forward(self, x: Tensor) -> Tensor:
        mixed, shape = self.mixed(x), (len(x), -1, self.d)
        r = self.q_proj(mixed["r"]).view(shape)
        slow = self.time_decay[0] + torch.tanh(mixed["w"] @ self.time_decay_w1) @ self.time_decay_w2
        decay = torch.exp(-torch.exp(slow)).view(shape)
        k, v = (p(mixed[n]).view(shape) for p, n in ((self.k_proj, "k"), (self.v_proj, "v")))
        k, v = (y.repeat_interleave(self.n_heads // y.shape[1], 1) for y in (k, v))
        k = k * (1 - decay)
        state, rows = x.new_zeros(self.n_heads, self.d, self.d), []
        for t in range(len(x)):
            state = decay[t][:, :, None] * state + k[t][:, :, None] * v[t][:, None]
            rows.append(torch.einsum("hk,hkv->hv", r[t], state).flatten() / self.d**0.5)
        out: Tensor = self.o_proj(torch.stack(rows) * torch.sigmoid(self.gate(mixed["g"])))
        return out


class Layer(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        n, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(n, eps), RmsNorm(n, eps)
        self.self_attn, self.mlp = TimeMix(config), Mlp(n, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class Model(Written):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__(config)
        self.model = Trunk(self.config)
        self.lm_head = linear(self.config.hidden_size, self.config.vocab_size)

    def draw(self, p: Draw) -> Tensor | None:
        if p.leaf == "time_maa_w2":
            return p.normal(0.3)
        if p.leaf.startswith("time_maa_") and p.leaf != "time_maa_w1":
            return p.uniform(0, 1)
        if p.leaf == "time_decay":
            return p.normal(0.8, -1.0)
        # Stored [in, out]: what they multiply keeps its size.
        return p.normal(p.shape[0] ** -0.5) if p.leaf in ("time_maa_w1", "time_decay_w1") else None

    def run(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x)
        out: Tensor = self.lm_head(self.model.norm(x))
        return out
