"""phimoe (Phi 3.5 MoE): layer norms and biases around attention, experts without any."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm, layer_norm_outputs
from slotmux.runtime.lowering.moe import moe
from slotmux.runtime.models.blocks import embedding, logits, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import expert_shape


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    window = hp.u32("attention.sliding_window", 0)
    shape = expert_shape(hp, hp.n_ff[0], renormalise=True)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = layer_norm(b, x, f"{blk}.attn_norm", hp.eps)
        a = self_attention(b, hp, layer, h, rope, window)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = layer_norm(b, x, f"{blk}.ffn_norm", hp.eps)
        moe(b, blk, h, shape, x)
    return x


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """output W layer_norm(x) + output.bias"""
    return logits(b, hp, layer_norm_outputs(b, x, "output_norm", hp.eps, capacity), capacity)
