"""granitehybrid (Granite 4 H; Bamba is stored under this name too): Mamba-2 with some attention.

Embedding, residual branches, attention and logits have scale factors; Bamba has none of them.
The FFN is dense, or experts with an ungated shared one beside them.
"""

from __future__ import annotations

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
from slotmux.runtime.models.recurrent.mamba_mixers import mamba2_mixer

normed = output_norm


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp, hp.f32("embedding_scale", 1.0) or 1.0)
    scale = hp.f32("residual_scale", 1.0) or 1.0
    is_rotated = hp.flag("rope.scaling.finetuned", True)
    rope = rotation(hp, b.weights, neighbours=True) if is_rotated else None
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        if hp.n_head_kv[layer]:
            a = self_attention(b, hp, layer, h, rope)
            project(b, a, f"{blk}.attn_output.weight", x, scale)
        else:
            project(b, mamba2_mixer(b, hp, blk, h), f"{blk}.ssm_out.weight", x, scale)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        if b.weights.has(f"{blk}.ffn_gate_inp.weight"):
            experts(b, hp, layer, h, x, scale)
        else:
            f = gated_ffn(b, h, blk, hp.n_ff[layer])
            project(b, f, f"{blk}.ffn_down.weight", x, scale)
    return x


def experts(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows, scale: float) -> None:
    """x += scale * (the chosen experts' sum + the shared expert)"""
    blk = f"blk.{layer}"
    n_shared = hp.u32("expert_shared_feed_forward_length", 0)
    if n_shared:
        names = [f"{blk}.ffn_{n}_shexp.weight" for n in ("gate", "up")]
        gate, up = b.linears(h, names, (n_shared, n_shared), "gate_up")
        shared = b.glu("silu", up, gate)
        project(b, shared, f"{blk}.ffn_down_shexp.weight", x, scale)
    n_expert = hp.u32("expert_count", low=1)
    n_used = hp.u32("expert_used_count", low=1, high=n_expert)
    n_ff = hp.u32("expert_feed_forward_length", hp.n_ff[layer])
    # The routing weights sum to 1, so they can carry the branch's scale.
    moe(b, blk, h, MoeShape(n_expert, n_used, n_ff, scale=scale), x)


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits, divided by ``logit_scale``."""
    return output_head(b, hp, x, capacity, scale=1.0 / (hp.f32("logit_scale", 1.0) or 1.0))
