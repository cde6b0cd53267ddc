"""glm4 (GLM-4-0414, GLM-Z1, the text of GLM-4.1V): norms before and after each block.

Half of each head rotates; gate and up are one matrix.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, fused_gated_ffn, self_attention
from slotmux.runtime.models.dense.normed_blocks import normed_layers
from slotmux.runtime.models.hparams import Hparams, rotation


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=not has_sections(hp))

    def attend(layer: int, h: Rows) -> Rows:
        return self_attention(b, hp, layer, h, rope)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return fused_gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer])

    return normed_layers(b, hp, x, attend, feed_forward, norms_first=True)


def has_sections(hp: Hparams) -> bool:
    """Whether pairs rotate by one of several positions, as in models that see: they are halves
    then. The positions of text are all the same."""
    key = hp.key("rope.dimension_sections")
    return key in hp.metadata and bool(hp.metadata.get_array(key).any())
