"""command-r (Command R, Aya 23 and Expanse) and cohere2 (Command R7B, Command A): attention and
SwiGLU side by side on one layer norm without a bias; logits have a factor.

command-r rotates everywhere; Command R+ norms the heads of q and k. cohere2 has a window in three
layers of four, and the fourth has no positions.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import in_place
from slotmux.runtime.models.blocks import embedding, gated_ffn, self_attention
from slotmux.runtime.models.dense.layer_normed.layers import (
    heads_normed,
    layer_normed_head,
    layer_normed_outputs,
    layers,
)
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.windows import windows

GLOBAL_EVERY = 4  # where the file does not say

normed = layer_normed_outputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    rope = rotation(hp, b.weights, neighbours=True, n_ctx=b.n_ctx)
    has_windows = hp.arch == "cohere2"
    seen = windows(hp, GLOBAL_EVERY) if has_windows else [0] * hp.n_layers

    def attend(layer: int, h: Rows) -> Rows:
        turned = None if has_windows and not seen[layer] else rope
        prepare = heads_normed(b, hp, layer)
        return self_attention(b, hp, layer, h, turned, seen[layer], prepare=prepare)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer])

    return layers(b, hp, embedding(b, hp), attend, feed_forward, is_parallel=True)


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits times ``logit_scale``."""
    out = layer_normed_head(b, hp, x, capacity)
    scale = hp.f32("logit_scale", 0.0) or 1.0
    if scale != 1.0:
        in_place(b, "scale", out, scalar=scale)
    return out
