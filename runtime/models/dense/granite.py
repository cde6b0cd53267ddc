"""granite and granitemoe (Granite 3 and 4 without recurrent layers): llama with four factors.

On the embedding, on every block's output before it is added, instead of 1/sqrt(head_dim) on the
scores, and dividing the logits.
"""

from __future__ import annotations

from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.models.blocks import (
    embedding,
    gated_ffn,
    norm,
    output_head,
    output_norm,
    project,
    self_attention,
)
from slotmux.runtime.models.hparams import Hparams, rotation

normed = output_norm


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    # Factors of muP (Yang et al. 2022), chosen at training; 0 in a file means that there is none.
    embedding_scale = hp.f32("embedding_scale", 0.0) or 1.0
    residual_scale = hp.f32("residual_scale", 0.0) or 1.0
    return scaled_layers(b, hp, rotation_if_trained(b, hp), embedding_scale, residual_scale)


def scaled_layers(
    b: Builder, hp: Hparams, rope: Rotation | None, embedding_scale: float, residual_scale: float
) -> Rows:
    """llama's layers with a factor on the embedding and one on every block; returns the residual
    stream."""
    x = embedding(b, hp, embedding_scale)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x, residual_scale)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        feed_forward(b, hp, layer, h, x, residual_scale)
    return x


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits divided by ``logit_scale``."""
    scale = 1.0 / (hp.f32("logit_scale", 0.0) or 1.0)
    return output_head(b, hp, x, capacity, scale=scale)


def rotation_if_trained(b: Builder, hp: Hparams) -> Rotation | None:
    """The rotary embedding, unless ``rope.scaling.finetuned`` is false (not trained with one)."""
    if not hp.flag("rope.scaling.finetuned", True):
        return None
    return rotation(hp, b.weights, neighbours=True, n_ctx=b.n_ctx)


def feed_forward(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows, scale: float) -> None:
    """x += scale * (SwiGLU of h; or experts chosen by a softmax, and a shared one if there)"""
    blk = f"blk.{layer}"
    n_expert = hp.u32("expert_count", 0)
    if n_expert == 0:
        f = gated_ffn(b, h, blk, hp.n_ff[layer])
        project(b, f, f"{blk}.ffn_down.weight", x, scale)
        return
    n_used = hp.u32("expert_used_count", low=1, high=n_expert)
    # The experts' weights sum to 1, so the scale can ride on them.
    moe(b, blk, h, MoeShape(n_expert, n_used, hp.n_ff[layer], scale=scale), x)
    n_shared = hp.u32("expert_shared_feed_forward_length", 0)
    if n_shared:
        f = gated_ffn(b, h, blk, n_shared, suffix="_shexp")
        project(b, f, f"{blk}.ffn_down_shexp.weight", x, scale)
