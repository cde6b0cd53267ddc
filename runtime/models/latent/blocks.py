"""The blocks that families with latent attention share."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from slotmux.kernels.operands import Rows
from slotmux.runtime.exact import log
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.lowering.latent import LatentShape, latent_attention, store_latent
from slotmux.runtime.models.blocks import gated_ffn, norm, project
from slotmux.runtime.models.hparams import Hparams, rotation

SCORES = {1: "softmax", 2: "sigmoid"}  # expert_gating_func
# Temperatures beyond a context (Mistral Large 3), clamped SwiGLU.
UNSUPPORTED = ("attention.temperature_scale", "swiglu_clamp_exp", "swiglu_clamp_shexp")


def latent_rotation(hp: Hparams, b: Builder) -> tuple[Rotation, float]:
    """The rotation of keys and queries, and the factor that YaRN puts on scores instead of on it.

    DeepSeek's YaRN (mscale = mscale_all_dim) leaves cos and sin as they are."""
    rope = rotation(hp, b.weights, neighbours=True)
    log_multiplier = hp.f32("rope.scaling.yarn_log_multiplier", 0.0)
    factor = hp.f32("rope.scaling.factor", 1.0)
    kind = hp.metadata.get_str(hp.key("rope.scaling.type"), "linear")
    if kind != "yarn" or not log_multiplier or factor <= 1.0:
        return rope, 1.0
    # The file has 0.1 * mscale_all_dim; factors below 1 stretch nothing.
    mscale = 1.0 + log_multiplier * log(factor)
    magnitude = hp.f32("rope.scaling.attn_factor", 1.0)
    return replace(rope, magnitude=magnitude), mscale * mscale


def refuse_unsupported(hp: Hparams) -> None:
    """Refuse what would change results and has no code."""
    for name in UNSUPPORTED:
        value = hp.metadata.get(hp.key(name))
        if value is not None and np.any(np.asarray(value)):
            hp.metadata.refuse(hp.key(name), "is not supported")


def latent_shape(
    hp: Hparams, layer: int, rope: Rotation | None, factor: float = 1.0
) -> LatentShape:
    """One layer's attention, as the keys say; refuses what does not go together."""
    meta = hp.metadata
    n_head, _ = hp.heads(layer)
    latent = hp.u32("attention.kv_lora_rank")
    n_rot = hp.u32("rope.dimension_count", high=hp.head_dim)
    if hp.head_dim != latent + n_rot:
        meta.refuse(
            hp.key("attention.key_length"), f"{hp.head_dim} is not {latent} + {n_rot} dimensions"
        )
    head = hp.u32("attention.key_length_mla", low=n_rot + 1)
    return LatentShape(
        layer=layer,
        n_head=n_head,
        nope=head - n_rot,
        rope=n_rot,
        v_dim=hp.u32("attention.value_length_mla"),
        latent=latent,
        scale=factor / math.sqrt(head),
        rotation=rope,
        eps=hp.eps,
    )


def attention(b: Builder, hp: Hparams, shape: LatentShape, x: Rows) -> Rows:
    """Latent attention, in Ling 3 gated head by head; the output projection is the caller's."""
    blk = f"blk.{shape.layer}"
    names, sizes = input_matrices(b, hp, shape)
    q, kv, *gate = b.linears(x, names, sizes, "latent_in")
    if names[0].endswith("attn_q_a.weight"):
        h = norm(b, hp, q, f"{blk}.attn_q_a_norm.weight", "latent_q_norm")
        n_q = shape.n_head * (shape.nope + shape.rope)
        q = b.linear(h, b.weights.matrix(f"{blk}.attn_q_b.weight", q.width, n_q), "latent_q")
    k_b = b.weights.experts([f"{blk}.attn_k_b.weight"], shape.nope, [shape.latent], shape.n_head)
    v_b = b.weights.experts([f"{blk}.attn_v_b.weight"], shape.latent, [shape.v_dim], shape.n_head)
    kv_norm = b.weights.vector(f"{blk}.attn_kv_a_norm.weight", shape.latent)
    return latent_attention(b, shape, q, kv, kv_norm, k_b, v_b, gate[0] if gate else None)


def input_matrices(b: Builder, hp: Hparams, shape: LatentShape) -> tuple[list[str], list[int]]:
    """The matrices of queries, or of what they are made from, of cells and of gates, if there are
    any; and their outputs."""
    blk = f"blk.{shape.layer}"
    if not b.weights.has(f"{blk}.attn_k_b.weight") and b.weights.has(f"{blk}.attn_kv_b.weight"):
        b.weights.refuse(
            f"{blk}.attn_kv_b.weight",
            "latent attention in the form that files had before 2025, without attn_k_b and"
            " attn_v_b: convert the model again",
        )
    n_kv = shape.latent + shape.rope
    if b.weights.optional(f"{blk}.attn_q_a.weight"):
        n_q, q = hp.u32("attention.q_lora_rank"), f"{blk}.attn_q_a.weight"
    else:
        n_q, q = shape.n_head * (shape.nope + shape.rope), f"{blk}.attn_q.weight"
    names, sizes = [q, f"{blk}.attn_kv_a_mqa.weight"], [n_q, n_kv]
    if hp.arch == "bailingmoe3":
        return [*names, f"{blk}.attn_gate.weight"], [*sizes, shape.n_head]
    return names, sizes


def keep_cells(b: Builder, hp: Hparams, shape: LatentShape, x: Rows) -> None:
    """Only a layer's cells, of rows x before it: for a block that guesses tokens."""
    names, sizes = input_matrices(b, hp, shape)
    if b.weights.can_join(*names):
        weight = b.weights.matrix(names, x.width, sizes).outputs(*sizes[:2])
    else:
        weight = b.weights.matrix(names[1], x.width, sizes[1])
    kv = b.linear(x, weight, "latent_kv")
    norm = b.weights.vector(f"blk.{shape.layer}.attn_kv_a_norm.weight", shape.latent)
    store_latent(b, shape, kv, norm)


def feed_forward(b: Builder, hp: Hparams, layer: int, x: Rows) -> None:
    """The second half of a block, on the residual x: SwiGLU in leading blocks, then experts."""
    blk = f"blk.{layer}"
    h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
    if layer < hp.u32("leading_dense_block_count", 0):
        project(b, gated_ffn(b, h, blk, hp.n_ff[layer]), f"{blk}.ffn_down.weight", x)
        return
    moe(b, blk, h, moe_shape(hp), x, shared_expert(b, hp, blk, h))


def shared_expert(b: Builder, hp: Hparams, blk: str, x: Rows) -> Rows | None:
    """What the expert of every token finds, if there is one."""
    n_ff = hp.u32("expert_feed_forward_length") * hp.u32("expert_shared_count", 0)
    n_ff = hp.u32("expert_shared_feed_forward_length", n_ff) or n_ff
    if not n_ff:
        return None
    names = [f"{blk}.ffn_gate_shexp.weight", f"{blk}.ffn_up_shexp.weight"]
    gate, up = b.linears(x, names, (n_ff, n_ff), "shared_gate_up")
    f = b.glu("silu", up, gate, "shared_glu")
    down = b.weights.matrix(f"{blk}.ffn_down_shexp.weight", n_ff, x.width)
    return b.linear(f, down, "shared_down")


def moe_shape(hp: Hparams) -> MoeShape:
    """Experts of which a bias (exp_probs_b) takes part in the choice only, in groups of which the
    best are chosen from."""
    meta = hp.metadata
    n_expert = hp.u32("expert_count", low=1)
    # First files of GLM-4.7-Flash do not say how scores are made; llama.cpp knows them by this.
    is_glm = hp.n_layers in (47, 48) and hp.n_vocab == 154880
    function = hp.u32("expert_gating_func", 2 if is_glm else 1)
    if function not in SCORES:
        meta.refuse(hp.key("expert_gating_func"), f"{function} is not supported")
    n_groups = hp.u32("expert_group_count", 1) or 1
    if n_expert % n_groups:
        meta.refuse(hp.key("expert_group_count"), f"{n_groups} does not divide {n_expert} experts")
    return MoeShape(
        n_expert=n_expert,
        n_used=hp.u32("expert_used_count", low=1, high=n_expert),
        n_ff=hp.u32("expert_feed_forward_length"),
        scores=SCORES[function],
        # Kimi Linear's files do not say that they do.
        renormalise=hp.flag("expert_weights_norm", hp.arch == "kimi-linear"),
        scale=hp.f32("expert_weights_scale", 1.0) or 1.0,
        n_groups=n_groups,
        n_groups_used=hp.u32("expert_group_used_count", n_groups, 1, n_groups),
    )
