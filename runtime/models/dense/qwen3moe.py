"""qwen3moe (Qwen3-30B-A3B and kin): qwen3's attention, a mixture of experts in every layer."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    shape = moe_shape(hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        moe(b, blk, h, shape, x)
    return x


def moe_shape(hp: Hparams) -> MoeShape:
    """The experts of the Qwen families: softmax over all, the chosen weights sum to 1."""
    n_expert = hp.u32("expert_count", low=1)
    return MoeShape(
        n_expert=n_expert,
        n_used=hp.u32("expert_used_count", low=1, high=n_expert),
        n_ff=hp.u32("expert_feed_forward_length"),
    )
