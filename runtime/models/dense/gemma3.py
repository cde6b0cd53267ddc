"""gemma3 (Gemma 3): scaled embedding, norms before and after each block, q/k norms, GeGLU.

Five layers with a sliding window and their own rotary base to one that sees everything.
"""

from __future__ import annotations

import math

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation

GLOBAL_EVERY = 6  # not in the file: sliding_window_pattern of every published config


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    # The table is the output matrix too, so the scale cannot stand in it. Norms of the checkpoint
    # multiply by 1 + w; converters store that sum, so ours are plain.
    x = embedding(b, hp, math.sqrt(hp.n_embd))
    window = hp.u32("attention.sliding_window", 0)
    everywhere = rotation(hp, b.weights, neighbours=False)
    local = rotation(hp, b.weights, False, base=hp.f32("rope.freq_base_swa", 10000.0))
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        sees_all = (layer + 1) % GLOBAL_EVERY == 0
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(
            b, hp, layer, h, everywhere if sees_all else local, 0 if sees_all else window
        )
        y = b.linear(
            a, b.weights.matrix(f"{blk}.attn_output.weight", a.width, hp.n_embd), "block_out"
        )
        add_normed(b, hp, x, y, f"{blk}.post_attention_norm.weight")
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        f = gated_ffn(b, h, blk, hp.n_ff[layer], "gelu")
        y = b.linear(f, b.weights.matrix(f"{blk}.ffn_down.weight", f.width, hp.n_embd), "block_out")
        add_normed(b, hp, x, y, f"{blk}.post_ffw_norm.weight")
    return x


def add_normed(b: Builder, hp: Hparams, x: Rows, y: Rows, tensor: str) -> None:
    """x += norm(y)"""
    b.rms_norm_to(y, b.weights.vector(tensor, hp.n_embd), hp.eps, x, add=True)
