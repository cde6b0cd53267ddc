"""The same drafts from a block put together of transformers' own decoder layer.

transformers leaves the block of Qwen 3.5 out; its parts are a full-attention layer and four norms.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from tools.golden.model.next_block import block_for
from tools.golden.recipe import Recipe
from tools.golden.references.llama_mtp import N_DRAFT
from tools.golden.references.logits import F32


class Block:
    """A block for multi-token prediction of ``model``, with the weights of its checkpoint."""

    def __init__(self, model: transformers.PreTrainedModel, checkpoint: Path) -> None:
        self.model = model
        weights = load_file(checkpoint / "model.safetensors")
        self.mtp = {k.removeprefix("mtp."): w for k, w in weights.items() if k.startswith("mtp.")}
        self.layer = self._layer()

    def _layer(self) -> nn.Module:
        module = sys.modules[type(self.model).__module__]
        cls = next(getattr(module, n) for n in dir(module) if n.endswith("DecoderLayer"))
        config = copy.deepcopy(self.model.config)
        config.layer_types, config.num_hidden_layers = ["full_attention"], 1
        layer: nn.Module = cls(config, 0).float().eval()
        layer.load_state_dict(
            fused_experts(
                {
                    k.removeprefix("layers.0."): w
                    for k, w in self.mtp.items()
                    if k.startswith("layers.")
                }
            )
        )
        return layer

    def norm(self, x: Tensor, name: str) -> Tensor:
        eps = self.model.config.rms_norm_eps
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (1 + self.mtp[name])

    def __call__(self, tokens: Sequence[int], states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [tokens, vocabulary] and hidden states [tokens, n_embd]."""
        n = len(tokens)
        embedded = self.model.get_input_embeddings()(torch.tensor([list(tokens)]))
        x = torch.cat(
            [
                self.norm(embedded, "pre_fc_norm_embedding.weight"),
                self.norm(torch.stack(list(states))[None], "pre_fc_norm_hidden.weight"),
            ],
            -1,
        )
        x = x @ self.mtp["fc.weight"].T
        pos = torch.arange(n)[None]
        rotary = self.model.model.rotary_emb(x, pos[None].expand(3, 1, n))
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        y = self.layer(x, position_embeddings=rotary, attention_mask=mask, position_ids=pos)
        y = self.norm(y[0] if isinstance(y, tuple) else y, "norm.weight").reshape(1, n, -1)
        return self.model.get_output_embeddings()(y)[0], y[0]


def fused_experts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Experts in one tensor, the way transformers holds them."""
    kept = {k: w for k, w in weights.items() if ".experts." not in k}
    n = sum(k.endswith("down_proj.weight") and ".experts." in k for k in weights)
    if not n:
        return kept

    def expert(i: int, name: str) -> Tensor:
        return weights[f"mlp.experts.{i}.{name}.weight"]

    kept["mlp.experts.gate_up_proj"] = torch.stack(
        [torch.cat([expert(i, "gate_proj"), expert(i, "up_proj")]) for i in range(n)]
    )
    kept["mlp.experts.down_proj"] = torch.stack([expert(i, "down_proj") for i in range(n)])
    return kept


Step = Callable[[Sequence[int], Sequence[Tensor]], tuple[Tensor, Tensor]]


def block_of(model: transformers.PreTrainedModel, checkpoint: Path, recipe: Recipe) -> Step:
    """The recipe's block as a function of tokens and the hidden states before them."""
    if recipe.mtp_form != "qwen":
        return partial(block_for(model, recipe).run, model)
    return Block(model, checkpoint)


def drafts(
    model: transformers.PreTrainedModel,
    checkpoint: Path,
    recipe: Recipe,
    prompts: Sequence[Sequence[int]],
    firsts: Sequence[int],
) -> list[tuple[F32, F32]]:
    """For each prompt and the token after it: the block's logits, and those of the chain."""
    block = block_of(model, checkpoint, recipe)
    out = []
    with torch.no_grad():
        for prompt, first in zip(prompts, firsts, strict=True):
            trunk = model.model(torch.tensor([list(prompt)]), use_cache=False).last_hidden_state[0]
            tokens, states = [*prompt, first], [torch.zeros_like(trunk[0]), *trunk]
            rows: list[F32] = []
            for _ in range(N_DRAFT):
                logits, hidden = block(tokens, states)
                rows.append(np.asarray(logits.numpy(), np.float32))
                states.append(hidden[-1])
                tokens.append(int(rows[-1][-1].argmax()))
            out.append((rows[0][: len(prompt)], np.stack([r[-1] for r in rows])))
    return out
