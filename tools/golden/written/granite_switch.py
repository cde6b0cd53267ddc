"""Granite Switch: Granite with adapters in every projection, which tokens of the text call.

Written from the description in llama.cpp's converter and model file. The router is the published
one: an attention head whose keys are +gain at calling tokens and -gain elsewhere, whose values are
the adapter's number, so that it gives the mean of those that were called.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from tools.golden.model.weights import Draw
from tools.golden.written.base import RmsNorm, Written, attended, linear, parameter, rotated


class Switched(nn.Module):
    """A projection with several outputs in one matrix, each with its stack of adapters."""

    def __init__(self, config: SimpleNamespace, n_in: int, sizes: list[int]) -> None:
        super().__init__()
        n, rank, self.sizes = config.num_adapters, config.max_lora_rank, sizes
        self.base_layer = linear(n_in, sum(sizes))
        a = [parameter(n, 1, rank, n_in) for _ in sizes]
        b = [parameter(n, 1, size, rank) for size in sizes]
        if len(sizes) == 1:
            self.lora_A, self.lora_B = a[0], b[0]
        else:
            self.lora_A_slices, self.lora_B_slices = nn.ParameterList(a), nn.ParameterList(b)

    def forward(self, x: Tensor, ids: Tensor) -> list[Tensor]:
        """The outputs; ``ids`` of adapters a token, 0 for none."""
        if len(self.sizes) == 1:
            stacks = [(self.lora_A, self.lora_B)]
        else:
            stacks = list(zip(self.lora_A_slices, self.lora_B_slices, strict=True))
        outs = []
        for y, (a, b) in zip(self.base_layer(x).split(self.sizes, -1), stacks, strict=True):
            zero_a, zero_b = torch.zeros_like(a[:1]), torch.zeros_like(b[:1])
            own_a, own_b = (torch.cat(s)[ids, 0] for s in ((zero_a, a), (zero_b, b)))
            outs.append(y + (own_b @ (own_a @ x[..., None]))[..., 0])
        return outs


class Attention(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        n, self.n_q, self.n_kv = (
            config.hidden_size, config.num_attention_heads, config.num_key_value_heads,
        )  # fmt: skip
        self.d, self.base = n // self.n_q, config.rope_theta
        self.scale = config.attention_multiplier
        sizes = [self.d * heads for heads in (self.n_q, self.n_kv, self.n_kv)]
        self.qkv_proj = Switched(config, n, sizes)
        self.o_proj = Switched(config, self.d * self.n_q, [n])

    def forward(self, h: Tensor, ids: Tensor) -> Tensor:
        q, k, v = (y.view(len(h), -1, self.d) for y in self.qkv_proj(h, ids))
        out = attended(rotated(q, self.base), rotated(k, self.base), v, self.scale)
        return self.o_proj(out, ids)[0]


class Layer(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        n, eps, n_ff = config.hidden_size, config.rms_norm_eps, config.shared_intermediate_size
        self.factor = config.residual_multiplier
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(n, eps), RmsNorm(n, eps)
        self.self_attn = Attention(config)
        self.shared_mlp = nn.ModuleDict(
            {
                "input_linear": Switched(config, n, [n_ff, n_ff]),
                "output_linear": Switched(config, n_ff, [n]),
            }
        )

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        x = x + self.factor * self.self_attn(self.input_layernorm(x), ids)
        gate, up = self.shared_mlp["input_linear"](self.post_attention_layernorm(x), ids)
        hidden = nn.functional.silu(gate) * up
        return x + self.factor * self.shared_mlp["output_linear"](hidden, ids)[0]


class Trunk(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        # One of the layers that config.json counts is the router, which has no weights.
        n_layers = config.num_hidden_layers - 1
        self.layers = nn.ModuleList(Layer(config) for _ in range(n_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class Model(Written):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__(config)
        self.model = Trunk(self.config)

    def draw(self, p: Draw) -> Tensor | None:
        return p.matrix(1.0) if "lora_" in p.name else None

    def adapters(self, ids: Tensor) -> Tensor:
        """The router's readings: of each token the number of its adapter."""
        numbers = torch.zeros(len(ids), dtype=torch.float64)
        for i, token in enumerate(self.config.adapter_token_ids):
            numbers[ids == token] = i + 1
        gain = self.config.control_token_gain
        keys = ((numbers > 0).double() * 2 - 1)[:, None, None] * gain
        read = attended(torch.ones_like(keys), keys, numbers[:, None, None], 1.0)[:, 0]
        # Halves up, also where what ordinary tokens add has moved one a little.
        return (read + 1e-6).clamp(0, self.config.num_adapters).add(0.5).floor().long()

    def run(self, ids: Tensor) -> Tensor:
        config, read_as = self.config, ids.clone()
        pairs = zip(config.adapter_token_ids, config.adapter_substitute_token_ids, strict=True)
        for token, substitute in pairs:
            read_as[ids == token] = substitute
        x, adapters = self.model.embed_tokens(read_as), self.adapters(ids)
        x = x * config.embedding_multiplier
        for layer in self.model.layers:
            x = layer(x, adapters)
        logits = self.model.norm(x) @ self.model.embed_tokens.weight.T
        return logits / config.logits_scaling
