"""A random block for multi-token prediction as DeepSeek's checkpoints have it: behind the last
layer one more of the same kind, with a matrix and two norms before it and a norm behind.

transformers leaves it out; it is put together of its decoder layer.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tools.golden.model.weights import fill
from tools.golden.recipe import Recipe


class Norm(nn.Module):  # type: ignore[misc]
    """RMS norm."""

    def __init__(self, n: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class NextBlock(nn.Module):  # type: ignore[misc]
    """The block of ``model``: its weights depend on the recipe alone."""

    last_norm: type[Norm] = Norm

    def __init__(self, model: transformers.PreTrainedModel, recipe: Recipe) -> None:
        super().__init__()
        config = copy.deepcopy(model.config)
        self.index, n = config.num_hidden_layers, config.hidden_size
        eps = getattr(config, "rms_norm_eps", None) or config.layer_norm_epsilon
        self.layers: nn.ModuleList = self.made(model, config)
        self.eh_proj = nn.Linear(2 * n, n, bias=False)
        self.enorm, self.hnorm, self.norm = Norm(n, eps), Norm(n, eps), self.last_norm(n, eps)
        fill(self, recipe)
        self.float().eval()

    def made(self, model: transformers.PreTrainedModel, config: Any) -> nn.ModuleList:
        """The decoder layer; ``config``: the model's, a copy."""
        config.num_hidden_layers += 1
        config.mlp_layer_types = [*config.mlp_layer_types, "sparse"]
        if getattr(config, "layer_types", None):
            config.layer_types = [*config.layer_types, "full_attention"]
        return nn.ModuleList([class_of(model, "DecoderLayer")(config, self.index)])

    def run(
        self, model: transformers.PreTrainedModel, tokens: Sequence[int], states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits [tokens, vocabulary] and hidden states [tokens, n_embd]; ``states``: the trunk's
        before each token."""
        n, embed = len(tokens), model.get_input_embeddings()
        embedded = self.enorm(embed(torch.tensor([list(tokens)])))
        x = self.eh_proj(torch.cat([embedded, self.hnorm(torch.stack(list(states))[None])], -1))
        pos = torch.arange(n)[None]
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        given = {"attention_mask": mask, "position_ids": pos}
        if hasattr(model.model, "rotary_emb"):
            given["position_embeddings"] = model.model.rotary_emb(x, pos)
        for layer in self.layers:
            x = layer(x, **given)
        y = self.norm(x).reshape(1, n, -1)
        return model.get_output_embeddings()(y)[0], y[0]

    def published(self) -> dict[str, Tensor]:
        """Its tensors by the names of checkpoints."""
        own = {
            "eh_proj.weight": self.eh_proj.weight,
            "enorm.weight": self.enorm.weight,
            "hnorm.weight": self.hnorm.weight,
            "shared_head.norm.weight": self.norm.weight,
            **split_experts(dict(self.layers[0].state_dict()), "mlp."),
        }
        return {
            f"model.layers.{self.index}.{name}": tensor.detach().contiguous()
            for name, tensor in own.items()
        }


class CentredNorm(Norm):
    """Layer norm without a bias."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(-1, keepdim=True))


class NemotronBlock(NextBlock):
    """Nemotron 3's: attention, then experts; its last norm alone is a layer norm."""

    last_norm = CentredNorm

    def made(self, model: transformers.PreTrainedModel, config: Any) -> nn.ModuleList:
        self.index = 0
        config.layers_block_type = ["full_attention", "moe"]
        cls = class_of(model, "NemotronHBlock")
        return nn.ModuleList([cls(config, i) for i in range(2)])

    def published(self) -> dict[str, Tensor]:
        own = {
            "0.eh_proj.weight": self.eh_proj.weight,
            "0.enorm.weight": self.enorm.weight,
            "0.hnorm.weight": self.hnorm.weight,
            "1.final_layernorm.weight": self.norm.weight,
        }
        for i, layer in enumerate(self.layers):
            for name, tensor in split_experts(dict(layer.state_dict()), "mixer.").items():
                own[f"{i}.{name}"] = tensor
        return {f"mtp.layers.{name}": tensor.detach().contiguous() for name, tensor in own.items()}


def block_for(model: transformers.PreTrainedModel, recipe: Recipe) -> NextBlock:
    """The block in the recipe's form."""
    return (NemotronBlock if recipe.mtp_form == "nemotron" else NextBlock)(model, recipe)


def class_of(model: transformers.PreTrainedModel, ending: str) -> Any:
    """A class of the model's module by the end of its name."""
    module = sys.modules[type(model).__module__]
    return next(getattr(module, name) for name in dir(module) if name.endswith(ending))


def split_experts(weights: dict[str, Tensor], mlp: str) -> dict[str, Tensor]:
    """A tensor for each expert, where transformers holds all in one; ``mlp``: before "experts"."""
    kept = {name: w for name, w in weights.items() if ".experts." not in name}
    for name in ("gate_up_proj", "up_proj", "down_proj"):
        fused = weights.get(f"{mlp}experts.{name}", torch.empty(0))
        parts = ("gate_proj", "up_proj") if name == "gate_up_proj" else (name,)
        for i in range(len(fused)):
            for part, w in zip(parts, fused[i].chunk(len(parts)), strict=True):
                kept[f"{mlp}experts.{i}.{part}.weight"] = w
    return kept
