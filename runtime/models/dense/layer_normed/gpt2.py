"""gpt2 (GPT-2 and its kin): learned positions instead of a rotation; layer norms, GELU, biases."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.positions import add_positions
from slotmux.runtime.models.blocks import embedding, self_attention
from slotmux.runtime.models.dense.layer_normed.layers import (
    layer_normed_head,
    layer_normed_outputs,
    layers,
    plain_ffn,
)
from slotmux.runtime.models.hparams import Hparams

head, normed = layer_normed_head, layer_normed_outputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    # A sequence never grows beyond the context of training: every position has a row.
    add_positions(b, x, "position_embd.weight", hp.n_ctx_train)

    def attend(layer: int, h: Rows) -> Rows:
        return self_attention(b, hp, layer, h, None)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return plain_ffn(b, hp, layer, h, "gelu")

    return layers(b, hp, x, attend, feed_forward, is_parallel=False)
