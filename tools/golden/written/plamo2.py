"""PLaMo 2: Mamba layers with a scalar decay a head, attention between them, norms around both.

Written from the description of pfnet's model card and of its converter: z and x stand side by side
for each head, B, C and dt are RMS-normed, norms after a block are stored less a fraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from tools.golden.model.weights import Draw
from tools.golden.written.base import (
    RmsNorm,
    Written,
    attended,
    linear,
    parameter,
    rms_normed,
    rotated,
)

AFTER_MIXER, AFTER_MLP = 1 / 5, 1 / 5**1.5  # what norms behind blocks are stored less


class Mamba(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.n_heads, self.d = config.mamba_num_heads, config.hidden_size_per_head
        self.n_state, self.eps = config.mamba_d_state, config.rms_norm_eps
        n, inner = config.hidden_size, self.n_heads * self.d
        self.n_dt = max(64, n // 16)
        self.in_proj, self.out_proj = linear(n, 2 * inner), linear(inner, n)
        self.conv1d = nn.Conv1d(inner, inner, config.mamba_d_conv, groups=inner, bias=False)
        self.bcdt_proj = linear(inner, self.n_dt + 2 * self.n_state)
        self.dt_proj = linear(self.n_dt, self.n_heads)
        self.dt_bias, self.A_log, self.D = (parameter(self.n_heads) for _ in range(3))
        self.dt_norm_weight = parameter(self.n_dt)
        self.B_norm_weight, self.C_norm_weight = parameter(self.n_state), parameter(self.n_state)

    def forward(self, h: Tensor) -> Tensor:
        z, x = self.in_proj(h).view(len(h), self.n_heads, 2 * self.d).chunk(2, -1)
        padded = nn.functional.pad(x.flatten(1).T, (self.conv1d.kernel_size[0] - 1, 0))
        x = nn.functional.silu(self.conv1d(padded[None])[0].T)
        parts = self.bcdt_proj(x).split([self.n_state, self.n_state, self.n_dt], -1)
        weights = (self.B_norm_weight, self.C_norm_weight, self.dt_norm_weight)
        b, c, dt = (rms_normed(y, self.eps) * w for y, w in zip(parts, weights, strict=True))
        dt = nn.functional.softplus(self.dt_proj(dt) + self.dt_bias)
        decay, x = torch.exp(-dt * torch.exp(self.A_log)), x.view(len(h), self.n_heads, self.d)
        state, rows = h.new_zeros(self.n_heads, self.d, self.n_state), []
        for t in range(len(h)):
            added = (dt[t][:, None] * x[t])[:, :, None] * b[t]
            state = decay[t][:, None, None] * state + added
            rows.append(state @ c[t] + self.D[:, None] * x[t])
        out: Tensor = self.out_proj((torch.stack(rows) * nn.functional.silu(z)).flatten(1))
        return out


class Attention(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.n_q, self.n_kv = config.num_attention_heads, config.num_key_value_heads
        self.d, self.base, self.eps = (
            config.hidden_size_per_head,
            config.rope_theta,
            config.rms_norm_eps,
        )
        n = config.hidden_size
        self.qkv_proj = linear(n, (self.n_q + 2 * self.n_kv) * self.d)
        self.q_weight, self.k_weight = parameter(self.n_q, self.d), parameter(self.n_kv, self.d)
        self.o_proj = linear(self.n_q * self.d, n)

    def forward(self, h: Tensor) -> Tensor:
        heads = self.qkv_proj(h).view(len(h), -1, self.d)
        q, k, v = heads.split([self.n_q, self.n_kv, self.n_kv], 1)
        q = rotated(rms_normed(q, self.eps) * self.q_weight, self.base)
        k = rotated(rms_normed(k, self.eps) * self.k_weight, self.base)
        out: Tensor = self.o_proj(attended(q, k, v, self.d**-0.5))
        return out


class GatedMlp(nn.Module):
    def __init__(self, n: int, n_ff: int) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj = linear(n, 2 * n_ff), linear(n_ff, n)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        out: Tensor = self.down_proj(nn.functional.silu(gate) * up)
        return out


class Layer(nn.Module):
    def __init__(self, config: SimpleNamespace, is_mamba: bool) -> None:
        super().__init__()
        n, eps = config.hidden_size, config.rms_norm_eps
        self.pre_mixer_norm, self.post_mixer_norm = RmsNorm(n, eps, 1), RmsNorm(n, eps, AFTER_MIXER)
        self.pre_mlp_norm, self.post_mlp_norm = RmsNorm(n, eps, 1), RmsNorm(n, eps, AFTER_MLP)
        self.mixer = Mamba(config) if is_mamba else Attention(config)
        self.mlp = GatedMlp(n, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.post_mixer_norm(self.mixer(self.pre_mixer_norm(x)))
        return x + self.post_mlp_norm(self.mlp(self.pre_mlp_norm(x)))


class Trunk(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        step = config.mamba_step
        is_mamba = [i % step != step // 2 for i in range(config.num_hidden_layers)]
        layers = nn.ModuleList(Layer(config, each) for each in is_mamba)
        self.layers = nn.ModuleDict({"layers": layers})
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps, 1)


class Model(Written):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__(config)
        self.model = Trunk(self.config)

    def draw(self, p: Draw) -> Tensor | None:
        if p.leaf in ("q_weight", "k_weight", "dt_norm_weight", "B_norm_weight", "C_norm_weight"):
            return p.normal(0.2, 1.0)
        if p.leaf == "weight" and "norm" in p.name:
            # Larger behind blocks than trained ones, which begin at the fraction: else the blocks
            # of a random model would hardly show.
            return p.normal(0.2, 0.4 if "post_" in p.name else 0.0)
        return None

    def run(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers["layers"]:
            x = layer(x)
        return self.model.norm(x) @ self.model.embed_tokens.weight.T
