"""Layer parts that several families share, named as in their tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.lowering.attention import AttentionShape, Rotation, attend, rotate_and_store
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import add_scaled, in_place
from slotmux.runtime.models.hparams import Hparams


def embedding(b: Builder, hp: Hparams, scale: float = 1.0) -> Rows:
    """x = token_embd[token] * scale"""
    return b.embed(b.weights.matrix("token_embd.weight", hp.n_embd, hp.n_vocab), scale)


def norm(b: Builder, hp: Hparams, x: Rows, tensor: str, name: str = "norm") -> Rows:
    """RMS norm by a weight vector of the file."""
    return b.rms_norm(x, b.weights.vector(tensor, x.width), hp.eps, name)


def softcap_logits(b: Builder, hp: Hparams, out: Rows) -> Rows:
    """Logits bounded by the file's ``final_logit_softcapping`` c: c tanh(logit / c)."""
    cap = hp.f32("final_logit_softcapping", 0.0)
    if cap:
        in_place(b, "softcap", out, scalar=cap)
    return out


def head_norm(b: Builder, name: str, head_dim: int) -> NDArray[np.float32] | None:
    """A norm weight over one head's dimensions, if the file has it."""
    return b.weights.vector(name, head_dim) if b.weights.optional(name) else None


def attention_shape(
    hp: Hparams,
    layer: int,
    rotation: Rotation | None,
    window: int = 0,
    scale: float = 0.0,
    softcap: float = 0.0,
) -> AttentionShape:
    """A layer's attention as the file's keys have it; ``scale`` 0: by the width of a head."""
    n_head, n_head_kv = hp.heads(layer)
    return AttentionShape(
        layer=layer,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=hp.head_dim,
        v_dim=hp.v_dim,
        scale=scale or hp.attention_scale,
        rotation=rotation,
        eps=hp.eps,
        window=window,
        softcap=softcap,
    )


def self_attention(
    b: Builder,
    hp: Hparams,
    layer: int,
    x: Rows,
    rotation: Rotation | None,
    window: int = 0,
    scale: float = 0.0,
    *,
    has_sinks: bool = False,
    norms_last: bool = False,
    prepare: Callable[[Rows, Rows], None] | None = None,
) -> Rows:
    """Softmax attention over the sequence's cells; the output projection is the caller's.

    ``norms_last``: q and k heads are normed after the rotation; ``prepare``: what is done to q and
    k in place of these norms."""
    blk = f"blk.{layer}"
    softcap = hp.f32("attn_logit_softcapping", 0.0)
    shape = attention_shape(hp, layer, rotation, window, scale, softcap)
    q, k, v = attention_inputs(b, x, blk, shape.qkv_sizes)
    q_norm = k_norm = None
    if prepare is not None:
        prepare(q, k)
    elif is_wide_norm(b, f"{blk}.attn_q_norm.weight", hp.head_dim):
        q, k = normed_over_heads(b, hp, blk, q, k, v)
    else:
        q_norm = head_norm(b, f"{blk}.attn_q_norm.weight", hp.head_dim)
        k_norm = head_norm(b, f"{blk}.attn_k_norm.weight", hp.head_dim)
    rotate_and_store(b, shape, q, k, v, q_norm, k_norm, norms_last=norms_last)
    sinks = b.weights.vector(f"{blk}.attn_sinks.weight", shape.n_head) if has_sinks else None
    return attend(b, shape, q, sinks=sinks)


def is_wide_norm(b: Builder, name: str, head_dim: int) -> bool:
    """Whether a norm's weight, if the file has it, covers more than one head."""
    tensor = b.weights.file.tensors.get(name)
    return tensor is not None and tensor.shape[0] != head_dim


def normed_over_heads(
    b: Builder, hp: Hparams, blk: str, q: Rows, k: Rows, v: Rows
) -> tuple[Rows, Rows]:
    """q and k, each RMS-normed as one row, in a buffer of their own that is laid out alike."""
    rows = b.buffers.rows("qkv_normed", v.stride // 4)
    out = rows.columns(q.start, q.width), rows.columns(k.start, k.width)
    for x, y, name in zip((q, k), out, "qk", strict=True):
        weight = b.weights.vector(f"{blk}.attn_{name}_norm.weight", x.width)
        b.rms_norm_to(x, weight, hp.eps, y)
    return out


def attention_inputs(b: Builder, x: Rows, blk: str, sizes: tuple[int, int, int]) -> list[Rows]:
    """q, k and v with their biases, from three matrices or a fused one."""
    if b.weights.has(f"{blk}.attn_qkv.weight"):
        rows = biased_linear(b, x, f"{blk}.attn_qkv", sum(sizes), "qkv")
        starts = (0, sizes[0], sizes[0] + sizes[1])
        return [rows.columns(start, size) for start, size in zip(starts, sizes, strict=True)]
    # Side by side in one buffer: rotate_and_store takes one stride for q, k and v.
    parts = b.linears(x, [f"{blk}.attn_{n}.weight" for n in "qkv"], sizes, "qkv")
    for part, n in zip(parts, "qkv", strict=True):
        add_bias_if_any(b, part, f"{blk}.attn_{n}")
    return parts


def biased_linear(b: Builder, x: Rows, tensor: str, n_out: int, out: str) -> Rows:
    """``tensor``.weight x + ``tensor``.bias, if the file has one."""
    rows = b.linear(x, b.weights.matrix(f"{tensor}.weight", x.width, n_out), out)
    add_bias_if_any(b, rows, tensor)
    return rows


def add_bias_if_any(b: Builder, x: Rows, tensor: str) -> None:
    """x += ``tensor``.bias"""
    if b.weights.optional(f"{tensor}.bias"):
        b.add_bias(x, b.weights.vector(f"{tensor}.bias", x.width))


def project(b: Builder, x: Rows, tensor: str, residual: Rows, scale: float = 1.0) -> None:
    """residual += scale * (tensor x + its bias, if the file has one)"""
    weight, name = b.weights.matrix(tensor, x.width, residual.width), tensor.removesuffix(".weight")
    if scale == 1.0:
        b.linear(x, weight, residual, add=True)
        add_bias_if_any(b, residual, name)
        return
    # A product can only be added as it is: with a factor it needs rows of its own first.
    y = b.linear(x, weight, "block_out")
    add_bias_if_any(b, y, name)
    add_scaled(b, residual, y, scale)


def gated_ffn(
    b: Builder, x: Rows, blk: str, n_ff: int, activation: str = "silu", suffix: str = ""
) -> Rows:
    """act(ffn_gate x) * (ffn_up x); the down projection is the caller's."""
    names = [f"{blk}.ffn_{n}{suffix}" for n in ("gate", "up")]
    gate, up = b.linears(x, [f"{name}.weight" for name in names], (n_ff, n_ff), "gate_up")
    for part, name in zip((gate, up), names, strict=True):
        add_bias_if_any(b, part, name)
    return b.glu(activation, up, gate)


def fused_gated_ffn(b: Builder, x: Rows, blk: str, n_ff: int) -> Rows:
    """The same with gate and up in one matrix, ``ffn_up``."""
    both = biased_linear(b, x, f"{blk}.ffn_up", 2 * n_ff, "gate_up")
    # gate_up_proj of the checkpoint: the gate's rows come first.
    return b.glu("silu", both.columns(n_ff, n_ff), both.columns(0, n_ff))


def output_norm(
    b: Builder,
    hp: Hparams,
    x: Rows,
    capacity: int,
    norm_tensor: str = "output_norm.weight",
    scale: float = 1.0,
) -> Rows:
    """scale * norm(x) of the output rows. The scale is taken by the norm's weight: the same numbers
    but for rounding, and no extra pass."""
    weight = b.weights.vector(norm_tensor, hp.n_embd)
    if scale != 1.0:
        weight = b.weights.constant(weight * np.float32(scale))
    # From here on rows are outputs, not tokens: of a prompt only the last token's logits are
    # wanted, and the output matrix is the largest of all.
    return b.rms_norm_outputs(x, weight, hp.eps, capacity)


def output_head(
    b: Builder,
    hp: Hparams,
    x: Rows,
    capacity: int,
    norm_tensor: str = "output_norm.weight",
    scale: float = 1.0,
) -> Rows:
    """Logits of the output rows: scale * output W norm(x); W is token_embd without a matrix."""
    return logits(b, hp, output_norm(b, hp, x, capacity, norm_tensor, scale))


def logits(b: Builder, hp: Hparams, h: Rows) -> Rows:
    """output W h + output.bias, of normed output rows."""
    tied = not b.weights.has("output.weight")
    name = "token_embd.weight" if tied else "output.weight"
    out = b.linear(h, b.weights.matrix(name, hp.n_embd, hp.n_vocab), "logits")
    if b.weights.has("output.bias"):
        b.add_bias(out, b.weights.vector("output.bias", hp.n_vocab))
    return out
