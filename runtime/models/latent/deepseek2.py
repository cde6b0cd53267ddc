"""deepseek2: DeepSeek V2, V2-Lite, V3 and R1, Kimi K2, GLM-4.7-Flash and all that converters store
under this name.

Pre-norm residual blocks: latent attention, then SwiGLU in the leading blocks and in all others
experts with a shared one.
"""

from __future__ import annotations

from slotmux.kernels.operands import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, norm, project
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.latent.blocks import (
    attention,
    feed_forward,
    latent_rotation,
    latent_shape,
    refuse_unsupported,
)


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    refuse_unsupported(hp)
    x = embedding(b, hp)
    rope, factor = latent_rotation(hp, b)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = attention(b, hp, latent_shape(hp, layer, rope, factor), h)
        project(b, a, f"{blk}.attn_output.weight", x)
        feed_forward(b, hp, layer, x)
    return x
