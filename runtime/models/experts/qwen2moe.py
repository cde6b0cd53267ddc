"""qwen2moe (Qwen 1.5 MoE, Qwen 2 57B-A14B): qwen2's layers, experts and a shared one with a gate.

The chosen weights are taken from a softmax over all experts and do not sum to 1.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.hybrid.qwen_hybrid import shared_experts
from slotmux.runtime.models.moe_blocks import expert_shape


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    n_used = hp.u32("expert_used_count", low=1)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        shape = expert_shape(hp, hp.n_ff[layer] // n_used)
        shared_experts(b, hp, blk, h, shape, x, hp.n_ff[layer])
    return x
