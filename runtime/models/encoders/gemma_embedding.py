"""gemma-embedding (EmbeddingGemma; Vera et al. 2025): Gemma 3's layers over whole texts.

Five layers that see some tokens to either side, with their own rotary base, to one that sees all.
Behind the pooling stand two matrices, where the converter was told to keep them.
"""

from __future__ import annotations

import math

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm
from slotmux.runtime.models.dense.gemma3 import GLOBAL_EVERY
from slotmux.runtime.models.dense.normed_blocks import add_normed
from slotmux.runtime.models.encoders.blocks import attention_of_texts, is_windowed
from slotmux.runtime.models.hparams import Hparams, rotation


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one, normed."""
    x = embedding(b, hp, math.sqrt(hp.n_embd))
    window = hp.u32("attention.sliding_window")
    everywhere = rotation(hp, b.weights, neighbours=False)
    local = rotation(hp, b.weights, False, base=hp.f32("rope.freq_base_swa", 10000.0))
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        is_local = is_windowed(hp, layer, GLOBAL_EVERY, sees_all_first=False)
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = attention_of_texts(
            b, hp, layer, h, local if is_local else everywhere, window // 2 if is_local else 0
        )
        w = b.weights.matrix(f"{blk}.attn_output.weight", a.width, hp.n_embd)
        add_normed(b, hp, x, b.linear(a, w, "block_out"), f"{blk}.post_attention_norm.weight")
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        f = gated_ffn(b, h, blk, hp.n_ff[layer], "gelu")
        w = b.weights.matrix(f"{blk}.ffn_down.weight", f.width, hp.n_embd)
        add_normed(b, hp, x, b.linear(f, w, "block_out"), f"{blk}.post_ffw_norm.weight")
    return norm(b, hp, x, "output_norm.weight")
