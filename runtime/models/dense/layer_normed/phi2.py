"""phi2 (Phi-1, 1.5 and 2): attention and feed-forward side by side on one layer norm.

Biases everywhere, the output matrix included; rotary pairs in halves over a part of each head.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, self_attention
from slotmux.runtime.models.dense.layer_normed.layers import (
    layer_normed_head,
    layer_normed_outputs,
    layers,
    plain_ffn,
)
from slotmux.runtime.models.hparams import Hparams, rotation

head, normed = layer_normed_head, layer_normed_outputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    rope = rotation(hp, b.weights, neighbours=False)

    def attend(layer: int, h: Rows) -> Rows:
        return self_attention(b, hp, layer, h, rope)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return plain_ffn(b, hp, layer, h, "gelu")

    return layers(b, hp, embedding(b, hp), attend, feed_forward, is_parallel=True)
