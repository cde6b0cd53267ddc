"""Random weights that mean nothing, drawn so that every tensor changes the logits visibly.

Each parameter has a generator of its own, seeded by its name: adding one changes no other.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tools.golden.model.table import rounded
from tools.golden.recipe import Recipe


def stores_offset(recipe: Recipe, name: str) -> bool:
    """Whether a norm's weight is stored less one."""
    return any(re.search(p, name) for p in recipe.offset_norms) and not any(
        re.search(p, name) for p in recipe.plain_norms
    )


class Draw:
    """Draws for one parameter; its generator depends on the seed and the name alone."""

    def __init__(self, recipe: Recipe, name: str, shape: torch.Size) -> None:
        digest = hashlib.sha256(f"{recipe.seed}:{name}".encode()).digest()[:8]
        self.name, self.shape = name, shape
        self.is_offset = stores_offset(recipe, name)
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") % 2**62)

    def normal(self, deviation: float, mean: float = 0.0) -> Tensor:
        return torch.randn(self.shape, generator=self.generator) * deviation + mean

    def uniform(self, low: float, high: float) -> Tensor:
        return torch.rand(self.shape, generator=self.generator) * (high - low) + low

    def matrix(self, gain: float) -> Tensor:
        """Keeps the size of what is multiplied, times ``gain``."""
        return self.normal(gain / math.sqrt(self.shape[-1]))

    def has(self, *words: str) -> bool:
        return any(word in self.name.lower() for word in words)

    @property
    def leaf(self) -> str:
        return self.name.rsplit(".", 1)[-1]

    @property
    def n_axes(self) -> int:
        return len(self.shape)


def log_decay(p: Draw) -> Tensor:
    """A_log of Mamba and of the delta net, which forgets more slowly."""
    return torch.log(
        p.uniform(0.05, 3.0) if p.has("linear_attn", "forget_gate") else p.uniform(0.3, 6.0)
    )


def convolution(p: Draw) -> Tensor:
    if p.shape[-1] > 1:
        return p.normal(0.35)
    return p.normal(1.0 / math.sqrt(p.shape[1]))


def is_router(p: Draw) -> bool:
    pattern = r"router|gate\.weight$|router\.layer|gate_inp|shared_expert_gate"
    return p.n_axes == 2 and re.search(pattern, p.name.lower()) is not None


def is_norm(p: Draw) -> bool:
    return p.n_axes == 1 and p.leaf == "weight" and p.has("norm", "ln_f")


Rule = tuple[Callable[[Draw], bool], Callable[[Draw], Tensor]]

# The first rule that holds decides.
RULES: tuple[Rule, ...] = (
    (lambda p: p.leaf == "A_log", log_decay),
    (
        lambda p: p.leaf == "dt_bias" or p.name.lower().endswith("dt_proj.bias"),
        lambda p: p.normal(0.8, -1.0),
    ),
    (lambda p: p.leaf == "D", lambda p: p.normal(0.4, 1.0)),
    (lambda p: p.has("expert_bias", "e_score_correction_bias"), lambda p: p.normal(0.25)),
    # Keeps the outputs of the delta net well above the epsilon of their norm.
    (lambda p: p.has("linear_attn.conv1d"), lambda p: p.normal(0.6)),
    (lambda p: p.has("linear_attn.in_proj_qkv"), lambda p: p.matrix(2.0)),
    (lambda p: p.has("conv") and p.n_axes == 3, convolution),
    (is_norm, lambda p: p.normal(0.2, 0.0 if p.is_offset else 1.0)),
    (lambda p: p.leaf == "bias", lambda p: p.normal(0.15)),
    (lambda p: p.has("embed") and p.n_axes == 2, lambda p: p.normal(0.25)),
    (lambda p: p.has("lm_head", "embed_out"), lambda p: p.matrix(1.5)),
    (lambda p: is_router(p) and not p.has("gate_proj"), lambda p: p.matrix(2.0)),
    (lambda p: p.has("q_proj", "k_proj", "qkv"), lambda p: p.matrix(1.3)),
    (lambda p: p.n_axes >= 2, lambda p: p.matrix(1.0)),
    (lambda p: True, lambda p: p.normal(0.3, 0.5)),
)


def drawn(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, and the buffers that a checkpoint stores as weights."""
    yield from model.named_parameters()
    for name, buffer in model.named_buffers():
        if re.search(r"expert_bias|e_score_correction_bias", name):
            yield name, buffer


def fill(model: nn.Module, recipe: Recipe) -> None:
    """Give every parameter its values, in place."""
    with torch.no_grad():
        for name, parameter in drawn(model):
            draw = Draw(recipe, name, parameter.shape)
            own = model.draw(draw) if recipe.written else None
            if own is None:
                own = next(values for holds, values in RULES if holds(draw))(draw)
            drawn_values = own
            if recipe.table is not None and name == recipe.table[0]:
                drawn_values = rounded(drawn_values)
            if any(re.search(pattern, name) for pattern in recipe.ternary):
                scale = drawn_values.abs().mean()
                drawn_values = (drawn_values / scale).round().clamp(-1, 1) * scale
            parameter.copy_(drawn_values)


def mtp_tensors(config: dict[str, int], seed: int) -> dict[str, Tensor]:
    """A random block for multi-token prediction, under the names of Qwen 3.5's checkpoints."""
    generator = torch.Generator().manual_seed(seed + 777)
    n_embd, head = config["hidden_size"], config["head_dim"]
    n_q, n_kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head

    def matrix(n_out: int, n_in: int, gain: float = 1.0) -> Tensor:
        return torch.randn(n_out, n_in, generator=generator) * (gain / n_in**0.5)

    def norm(n: int) -> Tensor:
        return torch.randn(n, generator=generator) * 0.2

    def feed_forward(n_ff: int) -> Iterator[tuple[str, Tensor]]:
        for name, n_out, n_in in (
            ("gate_proj", n_ff, n_embd),
            ("up_proj", n_ff, n_embd),
            ("down_proj", n_embd, n_ff),
        ):
            yield f"{name}.weight", matrix(n_out, n_in)

    layer, mlp = "mtp.layers.0.", "mtp.layers.0.mlp."
    tensors = {
        "mtp.fc.weight": matrix(n_embd, 2 * n_embd, 1.2),
        "mtp.pre_fc_norm_embedding.weight": norm(n_embd),
        "mtp.pre_fc_norm_hidden.weight": norm(n_embd),
        "mtp.norm.weight": norm(n_embd),
        f"{layer}input_layernorm.weight": norm(n_embd),
        f"{layer}post_attention_layernorm.weight": norm(n_embd),
        f"{layer}self_attn.q_proj.weight": matrix(2 * n_q, n_embd, 1.3),
        f"{layer}self_attn.k_proj.weight": matrix(n_kv, n_embd, 1.3),
        f"{layer}self_attn.v_proj.weight": matrix(n_kv, n_embd),
        f"{layer}self_attn.o_proj.weight": matrix(n_embd, n_q),
        f"{layer}self_attn.q_norm.weight": norm(head),
        f"{layer}self_attn.k_norm.weight": norm(head),
    }
    if "num_experts" not in config:
        return tensors | {mlp + k: w for k, w in feed_forward(config["intermediate_size"])}
    tensors[f"{mlp}gate.weight"] = matrix(config["num_experts"], n_embd, 2.0)
    tensors[f"{mlp}shared_expert_gate.weight"] = matrix(1, n_embd, 2.0)
    for name, weight in feed_forward(config["shared_expert_intermediate_size"]):
        tensors[f"{mlp}shared_expert.{name}"] = weight
    for i in range(config["num_experts"]):
        for name, weight in feed_forward(config["moe_intermediate_size"]):
            tensors[f"{mlp}experts.{i}.{name}"] = weight
    return tensors
