"""glm4moe (GLM 4.5 to 4.7), dots1 (dots.llm1), ernie4_5-moe: a few dense layers, then experts.

Each expert layer has a shared expert beside the chosen ones; a bias takes part in the choice only.
"""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import dense_layer, expert_shape, experts_layer


@dataclass(frozen=True, slots=True)
class Kind:
    """What the architectures differ in, and their files do not say."""

    ffn_norm: str = "ffn_norm"
    neighbours: bool = False  # rotary pairs
    function: int = 1  # expert_gating_func where the file has none
    renormalise: bool = False


KINDS = {
    "glm4moe": Kind(ffn_norm="post_attention_norm", function=2),
    "dots1": Kind(function=2),
    "ernie4_5-moe": Kind(neighbours=True, renormalise=True),
}


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    kind = KINDS[hp.arch]
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, kind.neighbours, n_ctx=b.n_ctx)
    shape = expert_shape(hp, function=kind.function, renormalise=kind.renormalise)
    n_dense = hp.u32("leading_dense_block_count", 0)
    every = hp.u32("interleave_moe_layer_step", 1)
    # The shared expert is as wide as so many experts, where its width is not said.
    n_shared = hp.u32("expert_shared_count", 0) * shape.n_ff
    n_shared = hp.u32("expert_shared_feed_forward_length", n_shared)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.{kind.ffn_norm}.weight")
        if layer >= n_dense and (layer + 1) % every == 0:
            experts_layer(b, hp, layer, h, x, shape, n_shared)
        else:
            dense_layer(b, hp, layer, h, x)
    return x
