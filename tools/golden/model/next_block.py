"""A random block for multi-token prediction as DeepSeek's checkpoints have it: behind the last
layer one more of the same kind, with a matrix and two norms before it and a norm behind.

transformers leaves it out; it is put together of its decoder layer.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence

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

    def __init__(self, model: transformers.PreTrainedModel, recipe: Recipe) -> None:
        super().__init__()
        config = copy.deepcopy(model.config)
        self.index, n, eps = config.num_hidden_layers, config.hidden_size, config.rms_norm_eps
        config.num_hidden_layers += 1
        config.mlp_layer_types = [*config.mlp_layer_types, "sparse"]
        if getattr(config, "layer_types", None):
            config.layer_types = [*config.layer_types, "full_attention"]
        module = sys.modules[type(model).__module__]
        cls = next(getattr(module, name) for name in dir(module) if name.endswith("DecoderLayer"))
        self.layer: nn.Module = cls(config, self.index)
        self.eh_proj = nn.Linear(2 * n, n, bias=False)
        self.enorm, self.hnorm, self.norm = (Norm(n, eps) for _ in range(3))
        fill(self, recipe)
        self.float().eval()

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
        rotary = model.model.rotary_emb(x, pos)
        y = self.layer(x, position_embeddings=rotary, attention_mask=mask, position_ids=pos)
        y = self.norm(y[0] if isinstance(y, tuple) else y).reshape(1, n, -1)
        return model.get_output_embeddings()(y)[0], y[0]

    def published(self) -> dict[str, Tensor]:
        """Its tensors by the names of checkpoints."""
        own = {
            "eh_proj.weight": self.eh_proj.weight,
            "enorm.weight": self.enorm.weight,
            "hnorm.weight": self.hnorm.weight,
            "shared_head.norm.weight": self.norm.weight,
            **split_experts(dict(self.layer.state_dict())),
        }
        return {
            f"model.layers.{self.index}.{name}": tensor.detach().contiguous()
            for name, tensor in own.items()
        }


def split_experts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tensor for each expert, where transformers holds all in one."""
    kept = {name: w for name, w in weights.items() if ".experts." not in name}
    fused = weights["mlp.experts.gate_up_proj"]
    for i in range(fused.shape[0]):
        gate, up = fused[i].chunk(2)
        down = weights["mlp.experts.down_proj"][i]
        for name, w in (("gate_proj", gate), ("up_proj", up), ("down_proj", down)):
            kept[f"mlp.experts.{i}.{name}.weight"] = w
    return kept
