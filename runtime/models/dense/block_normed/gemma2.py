"""gemma2 (Gemma 2): norms before and after each block, GeGLU, bounded scores and logits.

Every other layer has a sliding window; all rotate alike.
"""

from __future__ import annotations

import math

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import (
    embedding,
    gated_ffn,
    output_head,
    output_norm,
    self_attention,
    softcap_logits,
)
from slotmux.runtime.models.dense.normed_blocks import normed_layers
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.windows import windows

WINDOW = 4096  # where the file does not say
N_LAYERS_27B = 46  # that one's scores are scaled by n_embd / n_head, which the file does not say
normed = output_norm


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp, math.sqrt(hp.n_embd))
    rope = rotation(hp, b.weights, neighbours=False)
    seen = windows(hp, 2, WINDOW)
    scale = (hp.n_embd // hp.n_head[0]) ** -0.5 if hp.n_layers == N_LAYERS_27B else 0.0

    def attend(layer: int, h: Rows) -> Rows:
        return self_attention(b, hp, layer, h, rope, seen[layer], scale)

    def feed_forward(layer: int, h: Rows) -> Rows:
        return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer], "gelu")

    return normed_layers(b, hp, x, attend, feed_forward, norms_first=True)


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """c tanh(logits / c)"""
    return softcap_logits(b, hp, output_head(b, hp, x, capacity))
