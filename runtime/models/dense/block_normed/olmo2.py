"""olmo2 (OLMo 2, Olmo 3): norms behind the blocks only; q and k RMS-normed over all heads.

Olmo 3 has a window in three layers of four; these rotate without the file's scaling.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, self_attention
from slotmux.runtime.models.dense.normed_blocks import normed_layers
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.windows import windows

GLOBAL_EVERY = 4  # where the file does not say


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    everywhere = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    base = hp.f32("rope.freq_base", 10000.0)
    local = rotation(hp, b.weights, False, base=hp.f32("rope.freq_base_swa", base))
    seen = windows(hp, GLOBAL_EVERY)

    def attend(layer: int, h: Rows) -> Rows:
        window = seen[layer]
        return self_attention(b, hp, layer, h, local if window else everywhere, window)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer])

    return normed_layers(b, hp, x, attend, feed_forward, norms_first=False)
