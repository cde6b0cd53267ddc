"""nemotron_h and nemotron_h_moe (NVIDIA 2025): one mixer a block, Mamba-2, attention or FFN.

FFNs have no gate: down(relu(up x)^2). Attention has no rotation.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe, routed
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.recurrent.mamba_mixers import mamba2_mixer

SCORES = {1: "softmax", 2: "sigmoid"}  # expert_gating_func


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        # A layer is one of three things, and has one norm; the file's per-layer counts say which.
        if hp.n_ff[layer]:
            feed_forward(b, hp, layer, h, x)
        elif hp.n_head_kv[layer]:
            a = self_attention(b, hp, layer, h, rotation=None)
            project(b, a, f"{blk}.attn_output.weight", x)
        else:
            project(b, mamba2_mixer(b, hp, blk, h), f"{blk}.ssm_out.weight", x)
    return x


def feed_forward(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows) -> None:
    """x += FFN(h): dense, or experts and the shared one."""
    blk = f"blk.{layer}"
    if not b.weights.has(f"{blk}.ffn_gate_inp.weight"):
        ungated_ffn(b, h, f"{blk}.ffn_up.weight", f"{blk}.ffn_down.weight", hp.n_ff[layer], x)
        return
    n_shared = hp.u32("expert_shared_feed_forward_length", 0)
    if n_shared:
        up, down = (f"{blk}.ffn_{name}_shexp.weight" for name in ("up", "down"))
        ungated_ffn(b, h, up, down, n_shared, x)
    shape, latent = moe_shape(hp, layer), f"{blk}.ffn_latent_down.weight"
    if not b.weights.optional(latent):
        moe(b, blk, h, shape, x)
        return
    # Routed experts work in a narrower space; the router and the shared expert do not.
    n = hp.u32("moe_latent_size")
    inside = b.linear(h, b.weights.matrix(latent, h.width, n), "latent_in")
    found = b.buffers.rows("latent_out", n)
    moe(b, blk, inside, shape, found, groups=routed(b, blk, h, shape), add=False)
    project(b, found, f"{blk}.ffn_latent_up.weight", x)


def ungated_ffn(b: Builder, h: Rows, up: str, down: str, n_ff: int, x: Rows) -> None:
    """x += down(relu(up h)^2)"""
    hidden = b.linear(h, b.weights.matrix(up, h.width, n_ff), "up")
    project(b, b.glu("relu2", hidden, None), down, x)


def moe_shape(hp: Hparams, layer: int) -> MoeShape:
    """Sigmoid scores; a bias takes part in the choice only (tensor exp_probs_b)."""
    meta = hp.metadata
    n_expert = hp.u32("expert_count", low=1)
    if hp.u32("expert_group_count", 1) > 1:
        meta.refuse(hp.key("expert_group_count"), "choosing by groups is not supported")
    function = hp.u32("expert_gating_func", 2)
    if function not in SCORES:
        meta.refuse(hp.key("expert_gating_func"), f"{function} is not supported")
    return MoeShape(
        n_expert=n_expert,
        n_used=hp.u32("expert_used_count", low=1, high=n_expert),
        n_ff=hp.u32("expert_feed_forward_length", hp.n_ff[layer]),
        scores=SCORES[function],
        renormalise=hp.flag("expert_weights_norm", False),
        scale=hp.f32("expert_weights_scale", 1.0) or 1.0,
        activation="relu2",
        has_gate=False,
    )
