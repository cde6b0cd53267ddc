"""minicpm (MiniCPM 1B, 2B, 4.1): granite's layers, with the factors of every published config where
the file has none."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import output_head, output_norm
from slotmux.runtime.models.dense.granite import scaled_layers
from slotmux.runtime.models.hparams import Hparams, rotation

EMBEDDING_SCALE, DEPTH_SCALE, BASE_WIDTH = 12.0, 1.4, 256  # scale_emb, scale_depth, dim_model_base
normed = output_norm


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    embedding_scale = hp.f32("embedding_scale", EMBEDDING_SCALE) or 1.0
    residual_scale = hp.f32("residual_scale", DEPTH_SCALE * hp.n_layers**-0.5) or 1.0
    rope = rotation(hp, b.weights, neighbours=True, n_ctx=b.n_ctx)
    return scaled_layers(b, hp, rope, embedding_scale, residual_scale)


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits divided by ``logit_scale``."""
    divisor = hp.f32("logit_scale", hp.n_embd / BASE_WIDTH) or 1.0
    return output_head(b, hp, x, capacity, scale=1.0 / divisor)
