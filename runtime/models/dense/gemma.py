"""gemma (Gemma 1, 1.1, CodeGemma): llama's layers with a scaled embedding and GeGLU."""

from __future__ import annotations

import math

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import gated_ffn
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    scale = math.sqrt(hp.n_embd)
    return dense_layers(b, hp, neighbours=False, feed_forward=geglu, embedding_scale=scale)


def geglu(b: Builder, hp: Hparams, layer: int, h: Rows) -> Rows:
    """gelu(ffn_gate h) * (ffn_up h)"""
    return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer], "gelu")
