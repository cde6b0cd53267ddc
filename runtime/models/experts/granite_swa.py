"""granite_swa (Granite with sliding windows): granite's factors, sinks on every layer.

Which layers have the window, and which rotate, is in the file. Dense or with experts.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import moe
from slotmux.runtime.models.blocks import (
    biased_linear,
    embedding,
    gated_ffn,
    norm,
    output_head,
    output_norm,
    project,
    self_attention,
)
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import expert_shape

normed = output_norm


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp, hp.f32("embedding_scale", 0.0) or 1.0)
    rope = rotation(hp, b.weights, neighbours=True, n_ctx=b.n_ctx)
    residual_scale = hp.f32("residual_scale", 0.0) or 1.0
    window = hp.u32("attention.sliding_window")
    has_window = hp.flags("attention.sliding_window_pattern")
    rotates = hp.flags("attention.rope_pattern", default=True)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        turned = rope if rotates[layer] else None
        seen = window if has_window[layer] else 0
        a = self_attention(b, hp, layer, h, turned, seen, has_sinks=True)
        project(b, a, f"{blk}.attn_output.weight", x, residual_scale)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        feed_forward(b, hp, layer, h, x, residual_scale)
    return x


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits divided by ``logit_scale``."""
    return output_head(b, hp, x, capacity, scale=1.0 / (hp.f32("logit_scale", 0.0) or 1.0))


def feed_forward(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows, scale: float) -> None:
    """x += scale * (SwiGLU of h; or experts, and a shared one if there)"""
    blk, n_ff = f"blk.{layer}", hp.n_ff[layer]
    if not hp.u32("expert_count", 0):
        project(b, gated_ffn(b, h, blk, n_ff), f"{blk}.ffn_down.weight", x, scale)
        return
    n_shared = hp.u32("expert_shared_feed_forward_length", 0)
    if n_shared:
        # Gate and up in one matrix, the gate's rows first.
        both = biased_linear(b, h, f"{blk}.ffn_up_shexp", 2 * n_shared, "gate_up")
        f = b.glu("silu", both.columns(n_shared, n_shared), both.columns(0, n_shared))
        project(b, f, f"{blk}.ffn_down_shexp.weight", x, scale)
    # The experts' weights sum to 1, so the scale can ride on them.
    moe(b, blk, h, expert_shape(hp, n_ff, renormalise=True, factor=scale), x)
