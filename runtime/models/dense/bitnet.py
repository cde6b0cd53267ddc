"""bitnet (BitNet b1.58): llama's layers with a norm before each block's last projection.

Ma et al. 2024. Weights are -1, 0 or 1 times a scale, in whatever type the file has them.
"""

from __future__ import annotations

from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import norm, self_attention
from slotmux.runtime.models.dense.llama import dense_layers, swiglu
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=False, attend=attend, feed_forward=feed_forward)


def attend(b: Builder, hp: Hparams, layer: int, h: Rows, rope: Rotation | None) -> Rows:
    """norm(attention)"""
    a = self_attention(b, hp, layer, h, rope)
    return norm(b, hp, a, f"blk.{layer}.attn_sub_norm.weight", "sub_norm")


def feed_forward(b: Builder, hp: Hparams, layer: int, h: Rows) -> Rows:
    """norm(SwiGLU of h)"""
    f = swiglu(b, hp, layer, h)
    return norm(b, hp, f, f"blk.{layer}.ffn_sub_norm.weight", "sub_norm")
