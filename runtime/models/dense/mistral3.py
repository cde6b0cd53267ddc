"""mistral3 (Ministral 3): llama's layers; queries far into the text are scaled up.

q *= 1 + s log(1 + floor(pos / n)), n the context before it was stretched (as in Llama 4).
"""

from __future__ import annotations

from dataclasses import replace

from slotmux.runtime.exact import log
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.positions import temper
from slotmux.runtime.models.blocks import self_attention
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=True, attend=attend)


def attend(b: Builder, hp: Hparams, layer: int, h: Rows, rope: Rotation | None) -> Rows:
    """Attention with tempered queries."""
    scale = hp.f32("attention.temperature_scale", 0.0)
    n_original = hp.u32("rope.scaling.original_context_length", hp.n_ctx_train)

    def prepare(q: Rows, k: Rows) -> None:
        # The rotation is linear: what it gets may be scaled in place of what it gives.
        if scale:
            temper(b, q, scale, n_original)

    rope = rope and replace(rope, magnitude=rope.magnitude / stretched(hp))
    return self_attention(b, hp, layer, h, rope, prepare=prepare)


def stretched(hp: Hparams) -> float:
    """By what yarn's magnitude is to be divided (Liu et al. 2024, DeepSeek-V2's mscale_all_dim)."""
    factor = hp.f32("rope.scaling.factor", 1.0)
    if factor <= 1.0 or hp.metadata.get_str(hp.key("rope.scaling.type"), "linear") != "yarn":
        return 1.0
    return 1.0 + 0.1 * hp.f32("rope.scaling.yarn_log_multiplier", 0.0) * log(factor)
