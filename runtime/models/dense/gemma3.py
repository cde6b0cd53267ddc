"""gemma3 (Gemma 3): scaled embedding, norms before and after each block, q/k norms, GeGLU.

Five layers with a sliding window and their own rotary base to one that sees everything.
"""

from __future__ import annotations

import math

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, self_attention
from slotmux.runtime.models.dense.normed_blocks import normed_layers
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

    def attend(layer: int, h: Rows) -> Rows:
        if (layer + 1) % GLOBAL_EVERY == 0:
            return self_attention(b, hp, layer, h, everywhere)
        return self_attention(b, hp, layer, h, local, window)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer], "gelu")

    return normed_layers(b, hp, x, attend, feed_forward, norms_first=True)
