"""gemma4 (Gemma 4: E2B, E4B, 31B, 26B-A4B): full layers, and others with a window, heads of two
sizes.

Scores are not scaled, values are RMS-normed. The last layers read an earlier one's keys and values
(E2B, E4B), and every layer gets an embedding of the token of its own. 26B-A4B has experts beside a
dense block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.lowering.attention import AttentionShape, Rotation, attend, rotate_and_store
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import in_place
from slotmux.runtime.lowering.experts.moe import moe, routed
from slotmux.runtime.lowering.per_layer import per_layer_inputs
from slotmux.runtime.models.blocks import (
    embedding,
    gated_ffn,
    head_norm,
    norm,
    output_head,
    output_norm,
    softcap_logits,
)
from slotmux.runtime.models.dense.normed_blocks import add_normed
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import expert_shape

normed = output_norm


@dataclass(frozen=True, slots=True)
class Kind:
    """What layers with a window have in common, or layers without."""

    head_dim: int
    rotation: Rotation
    window: int
    ones: NDArray[np.float32]  # values are normed by no weight


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp, math.sqrt(hp.n_embd))
    is_local = hp.flags("attention.sliding_window_pattern")
    kinds = {True: local_kind(b, hp), False: full_kind(b, hp)}
    n_per_layer = hp.u32("embedding_length_per_layer_input", 0)
    inputs = []
    if n_per_layer:
        inputs = per_layer_inputs(b, x, n_per_layer, hp.n_layers, hp.n_vocab, hp.eps)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = attention(b, hp, layer, h, kinds[is_local[layer]], source(hp, is_local, layer))
        weight = b.weights.matrix(f"{blk}.attn_output.weight", a.width, hp.n_embd)
        add_normed(b, hp, x, b.linear(a, weight, "block_out"), f"{blk}.post_attention_norm.weight")
        feed_forward(b, hp, layer, x)
        if inputs:
            add_per_layer(b, hp, layer, x, inputs)
        if b.weights.optional(f"{blk}.layer_output_scale.weight"):
            scale = b.weights.vector(f"{blk}.layer_output_scale.weight", 1)
            in_place(b, "scale", x.columns(0, x.width), scalar=float(scale[0]))
    return x


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits, capped if the file says so."""
    return softcap_logits(b, hp, output_head(b, hp, x, capacity))


def full_kind(b: Builder, hp: Hparams) -> Kind:
    """Layers that see everything; ``rope_freqs`` leaves most of a head as it is."""
    check_value_size(hp, "", hp.head_dim)
    turned = rotation(hp, b.weights, neighbours=False)
    return Kind(hp.head_dim, turned, 0, b.weights.constant(np.ones(hp.head_dim, np.float32)))


def local_kind(b: Builder, hp: Hparams) -> Kind:
    """Layers with a window."""
    head_dim = hp.u32("attention.key_length_swa", hp.head_dim)
    check_value_size(hp, "_swa", head_dim)
    n_rot = hp.u32("rope.dimension_count_swa", head_dim, high=head_dim)
    base = hp.f32("rope.freq_base_swa", 10000.0)
    turned = rotation(hp, b.weights, neighbours=False, base=base, n_rot=n_rot)
    window = hp.u32("attention.sliding_window")
    return Kind(head_dim, turned, window, b.weights.constant(np.ones(head_dim, np.float32)))


def check_value_size(hp: Hparams, suffix: str, head_dim: int) -> None:
    """Refuse values of another size than keys: a layer without ``attn_v`` has keys for values."""
    name = f"attention.value_length{suffix}"
    n = hp.u32(name, head_dim)
    if n != head_dim:
        hp.metadata.refuse(hp.key(name), f"{n} is not {head_dim}, the keys' size")


def source(hp: Hparams, is_local: list[bool], layer: int, n_shared: int = 0) -> int:
    """The earlier layer whose cells a layer reads, -1 if it has its own: the last of its kind.

    ``n_shared``: how many layers do, where the file has no key for it."""
    n_own = hp.n_layers - hp.u32("attention.shared_kv_layers", n_shared, high=hp.n_layers)
    if layer < n_own:
        return -1
    alike = [i for i in range(n_own) if is_local[i] == is_local[layer]]
    if not alike:
        key = hp.key("attention.shared_kv_layers")
        hp.metadata.refuse(key, f"layer {layer} has no earlier layer of its kind to read")
    return alike[-1]


def attention(b: Builder, hp: Hparams, layer: int, x: Rows, kind: Kind, source: int) -> Rows:
    """Softmax attention over the layer's own cells or the source's."""
    blk, (n_head, n_head_kv) = f"blk.{layer}", hp.heads(layer)
    d = kind.head_dim
    shape = AttentionShape(
        layer=layer,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=d,
        v_dim=d,
        scale=1.0,
        rotation=kind.rotation,
        eps=hp.eps,
        window=kind.window,
        cells_of=source,
    )
    q_norm = b.weights.vector(f"{blk}.attn_q_norm.weight", d)
    if source >= 0:
        q = b.linear(x, b.weights.matrix(f"{blk}.attn_q.weight", x.width, n_head * d), "q")
        b.weights.skip(f"{blk}.attn_[kv]*.weight")  # some converters keep them
        rotate_and_store(b, shape, q, None, None, q_norm)
        return attend(b, shape, q)
    # A layer without attn_v has the keys, as they are before norm and rotation, for values.
    has_v = b.weights.has(f"{blk}.attn_v.weight")
    names = [f"{blk}.attn_{n}.weight" for n in ("q", "k", "v" if has_v else "k")]
    q, k, v = b.linears(x, names, shape.qkv_sizes, "qkv")
    k_norm = head_norm(b, f"{blk}.attn_k_norm.weight", d)
    rotate_and_store(b, shape, q, k, v, q_norm, k_norm, kind.ones)
    return attend(b, shape, q)


def feed_forward(b: Builder, hp: Hparams, layer: int, x: Rows) -> None:
    """x += norm(GeGLU(x)), or += norm(norm(GeGLU(x)) + norm(experts(x)))"""
    blk = f"blk.{layer}"
    h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
    f = gated_ffn(b, h, blk, hp.n_ff[layer], "gelu")
    y = b.linear(f, b.weights.matrix(f"{blk}.ffn_down.weight", f.width, hp.n_embd), "block_out")
    if b.weights.optional(f"{blk}.ffn_gate_inp.weight"):
        y = with_experts(b, hp, blk, x, y)
    add_normed(b, hp, x, y, f"{blk}.post_ffw_norm.weight")


def with_experts(b: Builder, hp: Hparams, blk: str, x: Rows, y: Rows) -> Rows:
    """norm(y) + norm(experts(norm(x))); the router reads x normed by a scale of its own."""
    shape = expert_shape(hp, renormalise=True, activation="gelu")
    scale = b.weights.vector(f"{blk}.ffn_gate_inp.scale", hp.n_embd)
    scale = b.weights.constant(scale * np.float32(1.0 / math.sqrt(hp.n_embd)))
    groups = routed(b, blk, b.rms_norm(x, scale, hp.eps, "router_in"), shape)
    h = norm(b, hp, x, f"{blk}.pre_ffw_norm_2.weight")
    z = b.buffers.rows("experts_out", hp.n_embd)
    moe(b, blk, h, shape, z, groups=groups, add=False)
    both = norm(b, hp, y, f"{blk}.post_ffw_norm_1.weight", "both")
    add_normed(b, hp, both, z, f"{blk}.post_ffw_norm_2.weight")
    return both


def add_per_layer(b: Builder, hp: Hparams, layer: int, x: Rows, inputs: list[Rows]) -> None:
    """x += norm(proj(gelu(gate x) * the token's input of this layer))"""
    blk, of_layer, gate = f"blk.{layer}", inputs[layer], inputs[-1]
    # A view of its own: what products made of x's earlier values must not be taken for these.
    now = x.columns(0, x.width)
    b.linear(now, b.weights.matrix(f"{blk}.inp_gate.weight", x.width, gate.width), gate)
    f = b.glu("gelu", of_layer, gate, "per_layer_glu")
    y = b.linear(f, b.weights.matrix(f"{blk}.proj.weight", f.width, x.width), "block_out")
    add_normed(b, hp, x, y, f"{blk}.post_norm.weight")
