"""falcon-h1 (Zuo et al. 2025): attention and Mamba-2 side by side in every layer, then SwiGLU.

The model card's multipliers are already in the file's weights.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.recurrent.mamba_mixers import mamba2_mixer


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope)
        # Two additions to x, attention's first: h was made before either, so that neither sees the
        # other. (The model's own code adds the two and then x: another rounding of the same sum.)
        project(b, a, f"{blk}.attn_output.weight", x)
        project(b, mamba2_mixer(b, hp, blk, h), f"{blk}.ssm_out.weight", x)
        h = norm(b, hp, x, ffn_norm_name(b, blk))
        f = gated_ffn(b, h, blk, hp.n_ff[layer])
        project(b, f, f"{blk}.ffn_down.weight", x)
    return x


def ffn_norm_name(b: Builder, blk: str) -> str:
    """Converters write this tensor without its suffix."""
    name = f"{blk}.ffn_norm"
    return name if b.weights.has(name) else f"{name}.weight"
