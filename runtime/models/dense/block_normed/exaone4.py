"""exaone4 (EXAONE 4.0): norms behind the blocks only; q and k heads RMS-normed.

32B has a window in three layers of four, and the fourth then has no positions; 1.2B has neither.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, self_attention
from slotmux.runtime.models.dense.normed_blocks import normed_layers
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.windows import windows

GLOBAL_EVERY = 4  # where the file does not say
WINDOW_32B, N_LAYERS_32B = 4096, 64


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    seen = windows(hp, GLOBAL_EVERY, WINDOW_32B if hp.n_layers == N_LAYERS_32B else 0)
    is_windowed = any(seen)

    def attend(layer: int, h: Rows) -> Rows:
        window = seen[layer]
        turned = None if is_windowed and not window else rope
        return self_attention(b, hp, layer, h, turned, window)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer])

    return normed_layers(b, hp, x, attend, feed_forward, norms_first=False)
