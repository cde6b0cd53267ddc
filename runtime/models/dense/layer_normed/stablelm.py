"""stablelm (StableLM 3B, StableLM 2 1.6B and 12B, Stable Code): layer norms, SwiGLU.

12B has no norm before the feed-forward, which then stands beside attention; and norms of q and k.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, self_attention
from slotmux.runtime.models.dense.layer_normed.layers import (
    heads_normed,
    layer_normed_head,
    layer_normed_outputs,
    layers,
)
from slotmux.runtime.models.hparams import Hparams, rotation

head, normed = layer_normed_head, layer_normed_outputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    rope = rotation(hp, b.weights, neighbours=False)

    def attend(layer: int, h: Rows) -> Rows:
        return self_attention(b, hp, layer, h, rope, prepare=heads_normed(b, hp, layer))

    def feed_forward(layer: int, h: Rows) -> Rows:
        return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer])

    is_parallel = not b.weights.has("blk.0.ffn_norm.weight")
    return layers(b, hp, embedding(b, hp), attend, feed_forward, is_parallel=is_parallel)
