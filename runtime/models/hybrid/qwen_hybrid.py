"""qwen35, qwen35moe (Qwen3.5, 3.6) and qwen3next (Qwen3-Next): Gated DeltaNet and attention.

Most layers are linear attention with a recurrent state, every few are softmax attention with a
gate on its output; then SwiGLU, or a mixture of experts with a gated shared expert. The block for
multi-token prediction behind the trunk's is in qwen_mtp.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slotmux.runtime.lowering.attention import (
    AttentionShape,
    Choice,
    Rotation,
    attend,
    rotate_and_store,
)
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.lowering.recurrent.conv import short_conv
from slotmux.runtime.lowering.recurrent.delta_net import DeltaShape, delta_net, gated_norm
from slotmux.runtime.models import blocks
from slotmux.runtime.models.blocks import embedding, gated_ffn, head_norm, norm, project
from slotmux.runtime.models.dense.qwen3moe import moe_shape
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.ranges import MAX_HEADS


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers of the trunk; returns the residual stream."""
    x = embedding(b, hp)
    rope = text_rotation(hp, rotation(hp, b.weights, neighbours=False))
    is_recurrent, delta = recurrent_layers(hp), delta_shape(hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        if is_recurrent[layer]:
            a, out = linear_attention(b, hp, blk, h, delta), f"{blk}.ssm_out.weight"
        else:
            a, out = gated_attention(b, hp, layer, h, rope), f"{blk}.attn_output.weight"
        project(b, a, out, x)
        feed_forward(b, hp, layer, x)
    return x


def feed_forward(b: Builder, hp: Hparams, layer: int, x: Rows) -> None:
    """The second half of a block, on the residual x: SwiGLU or experts."""
    blk = f"blk.{layer}"
    h = norm(b, hp, x, f"{blk}.post_attention_norm.weight")
    if hp.arch == "qwen35":
        project(b, gated_ffn(b, h, blk, hp.n_ff[layer]), f"{blk}.ffn_down.weight", x)
    else:
        shared_experts(b, hp, blk, h, moe_shape(hp), x)


def recurrent_layers(hp: Hparams) -> list[bool]:
    """Which layers have linear attention: by the file's list, or all but every n-th."""
    key = hp.key("attention.recurrent_layers")
    if key in hp.metadata:
        return hp.metadata.per_layer_bool(key, hp.n_blocks)
    interval = hp.u32("full_attention_interval", 4)
    return [(layer + 1) % interval != 0 for layer in range(hp.n_blocks)]


def text_rotation(hp: Hparams, rope: Rotation) -> Rotation:
    """Interleaved sections of time, height, width and one more stream, for text.

    The first three then are the token's position; the last is 0, so pairs that no section
    claims are not rotated (llama.cpp's reading; published sections claim every pair).
    """
    key = hp.key("rope.dimension_sections")
    if key not in hp.metadata:
        return rope
    sections = hp.metadata.get_array(key)
    is_valid = sections.dtype.kind in "iu" and len(sections) == 4 and sections.min() >= 0
    if not (is_valid and 0 < sections.sum() <= 4096):
        hp.metadata.refuse(key, f"{sections.tolist()} are no four sections")
    n = int(sections.sum())
    claimed = [(i % n) < 3 * int(sections[i % n % 3]) for i in range(len(rope.frequencies))]
    pairs = zip(rope.frequencies, claimed, strict=True)
    return replace(rope, frequencies=tuple(f if is_claimed else 0.0 for f, is_claimed in pairs))


def delta_shape(hp: Hparams) -> DeltaShape:
    """Heads of the linear layers; the order of v heads goes with the architecture."""
    meta = hp.metadata
    d = hp.u32("ssm.state_size", high=1024)
    n_k = hp.u32("ssm.group_count")
    n_v = hp.u32("ssm.time_step_rank", high=MAX_HEADS)
    if d % 16:
        meta.refuse(hp.key("ssm.state_size"), f"{d} is no multiple of 16")
    if n_v % n_k:
        meta.refuse(hp.key("ssm.time_step_rank"), f"{n_v} is no multiple of {n_k} groups")
    if hp.u32("ssm.inner_size", n_v * d) != n_v * d:
        meta.refuse(hp.key("ssm.inner_size"), f"{n_v} heads of {d} do not fill it")
    # With more v heads than k heads, v heads of a k head stand together, or are dealt out in turn.
    is_grouped = hp.arch == "qwen3next"  # as in the checkpoint; the others were reordered
    k_heads = [h // (n_v // n_k) if is_grouped else h % n_k for h in range(n_v)]
    return DeltaShape(n_k, tuple(k_heads), d, hp.eps)


def linear_attention(
    b: Builder, hp: Hparams, blk: str, x: Rows, shape: DeltaShape, gate: str = "silu"
) -> Rows:
    """Gated DeltaNet; the output projection is the caller's. ``gate``: the activation of z."""
    n_q, n_k, n_v = shape.qkv_sizes
    n_heads = len(shape.k_heads)
    names, sizes = qkvz_matrices(b, hp, blk, shape)
    if b.weights.has(f"{blk}.ssm_ba.weight"):
        names, sizes = [*names, f"{blk}.ssm_ba.weight"], [*sizes, 2 * n_heads]
        # The file's rows go k head by k head: its betas, then its alphas. Here each is one piece.
        b.weights.reorder(names[-1], unpicked(2 * shape.n_k_heads, n_heads // shape.n_k_heads))
        *qkvz, ba = b.linears(x, names, sizes, "delta_in")
        beta, alpha = ba.columns(0, n_heads), ba.columns(n_heads, n_heads)
    else:
        names = [*names, f"{blk}.ssm_alpha.weight", f"{blk}.ssm_beta.weight"]
        *qkvz, alpha, beta = b.linears(x, names, [*sizes, n_heads, n_heads], "delta_in")
    qkv = qkvz[0].columns(0, n_q + n_k + n_v)
    z = qkvz[1] if len(qkvz) > 1 else qkvz[0].columns(n_q + n_k + n_v, n_v)
    n_taps = hp.u32("ssm.conv_kernel")
    # One convolution over the channels of q, k and v alike, as in Yang et al. 2024 (Gated Delta
    # Networks, arXiv 2412.06464); only then are they parted.
    qkv = short_conv(b, qkv, f"{blk}.ssm_conv1d.weight", n_taps, silu=True)
    parts = (qkv.columns(0, n_q), qkv.columns(n_q, n_k), qkv.columns(n_q + n_k, n_v))
    a = b.weights.vector(f"{blk}.ssm_a", n_heads)
    dt_bias = b.weights.vector(f"{blk}.ssm_dt.bias", n_heads)
    y = delta_net(b, shape, parts, alpha, beta, a, dt_bias)
    weight = b.weights.vector(f"{blk}.ssm_norm.weight", shape.d)
    return gated_norm(b, y, z, weight, hp.eps, activation=gate)


def qkvz_matrices(
    b: Builder, hp: Hparams, blk: str, shape: DeltaShape
) -> tuple[list[str], list[int]]:
    """The matrices of q, k, v and the gate z with their outputs: two, or one in old files of
    qwen3next, whose rows go k head by k head there: q, k, then v and z of its v heads."""
    n_q, n_k, n_v = shape.qkv_sizes
    legacy = f"{blk}.ssm_in.weight"
    if hp.arch != "qwen3next" or not b.weights.has(legacy):
        return [f"{blk}.attn_qkv.weight", f"{blk}.attn_gate.weight"], [n_q + n_k + n_v, n_v]
    n = n_v // shape.n_k_heads
    b.weights.reorder(legacy, kind_by_kind(shape.n_k_heads, (shape.d, shape.d, n, n)))
    return [legacy], [n_q + n_k + 2 * n_v]


def kind_by_kind(n_groups: int, sizes: Sequence[int]) -> list[int]:
    """Row order that brings rows stored as groups, each of so many of every kind, kind by kind."""
    rows = np.arange(n_groups * sum(sizes)).reshape(n_groups, -1)
    kinds = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return [int(row) for kind in kinds for row in kind.reshape(-1)]


def unpicked(n_groups: int, n: int) -> list[int]:
    """Row order that brings rows stored as groups of n, alternately of two kinds, kind by kind."""
    return kind_by_kind(n_groups // 2, (n, n))


def attention_shape(hp: Hparams, layer: int, rotation: Rotation) -> AttentionShape:
    """One layer's softmax attention."""
    if hp.v_dim != hp.head_dim:
        hp.metadata.refuse(hp.key("attention.value_length"), f"{hp.v_dim} is not {hp.head_dim}")
    return blocks.attention_shape(hp, layer, rotation)


def qkv_matrices(b: Builder, shape: AttentionShape) -> tuple[list[str], tuple[int, int, int]]:
    """The matrices of q with its gate, k and v, and their outputs; q's before all gates."""
    names = [f"blk.{shape.layer}.attn_{n}.weight" for n in "qkv"]
    # Stored head by head, q beside its gate. In two halves, q has one stride from head to head.
    b.weights.reorder(names[0], unpicked(2 * shape.n_head, shape.head_dim))
    n_q, n_k, n_v = shape.qkv_sizes
    return names, (2 * n_q, n_k, n_v)


def gated_attention(
    b: Builder,
    hp: Hparams,
    layer: int,
    x: Rows,
    rotation: Rotation,
    choice: Choice | None = None,
) -> Rows:
    """attention * sigmoid(gate), the gate from the same matrix as q, head by head; ``choice``: what
    tokens attend to, if not to all."""
    shape = attention_shape(hp, layer, rotation)
    names, sizes = qkv_matrices(b, shape)
    q_gate, k, v = b.linears(x, names, sizes, "qkv")
    n_q = shape.qkv_sizes[0]
    q, gate = q_gate.columns(0, n_q), q_gate.columns(n_q, n_q)
    q_norm = head_norm(b, f"blk.{layer}.attn_q_norm.weight", hp.head_dim)
    k_norm = head_norm(b, f"blk.{layer}.attn_k_norm.weight", hp.head_dim)
    rotate_and_store(b, shape, q, k, v, q_norm, k_norm)
    return attend(b, shape, q, gate, hp.head_dim, choice=choice)


def shared_experts(
    b: Builder,
    hp: Hparams,
    blk: str,
    x: Rows,
    shape: MoeShape,
    residual: Rows,
    n_ff: int = 0,
    *,
    add: bool = True,
) -> None:
    """residual += experts + sigmoid(ffn_gate_inp_shexp x) * shared expert

    ``n_ff``: the shared one's width where the file has no key for it (0: as any); without ``add``
    residual is overwritten."""
    n_ff = hp.u32("expert_shared_feed_forward_length", n_ff or shape.n_ff, low=1)
    names = [f"{blk}.ffn_gate_shexp.weight", f"{blk}.ffn_up_shexp.weight"]
    gate, up = b.linears(x, names, (n_ff, n_ff), "shared_gate_up")
    f = b.glu("silu", up, gate, "shared_glu")
    down = b.weights.matrix(f"{blk}.ffn_down_shexp.weight", n_ff, residual.width)
    y = b.linear(f, down, "shared_down")
    factor = b.weights.matrix(f"{blk}.ffn_gate_inp_shexp.weight", x.width, 1)
    moe(b, blk, x, shape, residual, y, b.linear(x, factor, "shared_factor"), add=add)
