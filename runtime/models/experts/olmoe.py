"""olmoe (OLMoE) and minimax-m2 (MiniMax M2): q and k are RMS-normed over all heads at once.

OLMoE's weights are those of a softmax over all experts; MiniMax's of sigmoids, and sum to 1.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import moe
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import expert_shape


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    is_minimax = hp.arch == "minimax-m2"
    shape = expert_shape(hp, hp.n_ff[0], function=2 if is_minimax else 1, renormalise=is_minimax)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        moe(b, blk, h, shape, x)
    return x
