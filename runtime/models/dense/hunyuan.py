"""hunyuan-dense (Hunyuan 0.5B to 7B, Hunyuan-MT): llama's layers, q and k heads normed after the
rotation."""

from __future__ import annotations

from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import self_attention
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=False, attend=attend)


def attend(b: Builder, hp: Hparams, layer: int, h: Rows, rope: Rotation | None) -> Rows:
    """Attention with the norms of q and k last."""
    return self_attention(b, hp, layer, h, rope, norms_last=True)
