"""hunyuan-moe (Hunyuan A13B): q and k heads are RMS-normed after the rotation; a shared expert."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import expert_shape, experts_layer


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    shape = expert_shape(hp, renormalise=True)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope, norms_last=True)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        n_shared = hp.u32("expert_shared_feed_forward_length", hp.n_ff[layer], low=1)
        experts_layer(b, hp, layer, h, x, shape, n_shared)
    return x
