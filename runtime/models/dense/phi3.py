"""phi3 (Phi-3, 3.5, 4): llama's layers with q, k, v in one matrix and gate and up in another.

Rotary pairs in halves; long-context versions stretch them by factors of the file (longrope).
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, fused_gated_ffn, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    window = hp.u32("attention.sliding_window", 0)
    for layer in range(hp.n_layers):
        blk, n_ff = f"blk.{layer}", hp.n_ff[layer]
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope, window)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        project(b, fused_gated_ffn(b, h, blk, n_ff), f"{blk}.ffn_down.weight", x)
    return x
