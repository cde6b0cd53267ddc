"""Layer parts that several families share, named as in their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.lowering.attention import AttentionShape, Rotation, attend, rotate_and_store
from runtime.lowering.buffers import Rows
from runtime.lowering.builder import Builder
from runtime.lowering.elementwise import add_scaled
from runtime.models.hparams import Hparams


def embedding(b: Builder, hp: Hparams, scale: float = 1.0) -> Rows:
    """x = token_embd[token] * scale"""
    return b.embed(b.weights.matrix("token_embd.weight", hp.n_embd, hp.n_vocab), scale)


def norm(b: Builder, hp: Hparams, x: Rows, tensor: str, name: str = "norm") -> Rows:
    """RMS norm by a weight vector of the file."""
    return b.rms_norm(x, b.weights.vector(tensor, x.width), hp.eps, name)


def head_norm(b: Builder, name: str, head_dim: int) -> NDArray[np.float32] | None:
    """A norm weight over one head's dimensions, if the file has it."""
    return b.weights.vector(name, head_dim) if b.weights.has(name) else None


def self_attention(
    b: Builder,
    hp: Hparams,
    layer: int,
    x: Rows,
    rotation: Rotation | None,
    window: int = 0,
    scale: float = 0.0,
) -> Rows:
    """Softmax attention over the sequence's cells; the output projection is the caller's."""
    blk = f"blk.{layer}"
    shape = AttentionShape(
        layer=layer,
        n_head=hp.n_head[layer],
        n_head_kv=hp.n_head_kv[layer],
        head_dim=hp.head_dim,
        v_dim=hp.v_dim,
        scale=scale or hp.attention_scale,
        rotation=rotation,
        eps=hp.eps,
        window=window,
    )
    names = [f"{blk}.attn_{n}.weight" for n in "qkv"]
    q, k, v = b.linears(x, names, shape.qkv_sizes, "qkv")
    for part, n in ((q, "q"), (k, "k"), (v, "v")):
        if b.weights.has(f"{blk}.attn_{n}.bias"):
            b.add_bias(part, b.weights.vector(f"{blk}.attn_{n}.bias", part.width))
    q_norm = head_norm(b, f"{blk}.attn_q_norm.weight", hp.head_dim)
    k_norm = head_norm(b, f"{blk}.attn_k_norm.weight", hp.head_dim)
    rotate_and_store(b, shape, q, k, v, q_norm, k_norm)
    return attend(b, shape, q)


def project(b: Builder, x: Rows, tensor: str, residual: Rows, scale: float = 1.0) -> None:
    """residual += scale * (tensor x + its bias, if the file has one)"""
    weight = b.weights.matrix(tensor, x.width, residual.width)
    bias = tensor.removesuffix("weight") + "bias"
    if scale == 1.0:
        b.linear(x, weight, residual, add=True)
        if b.weights.has(bias):
            b.add_bias(residual, b.weights.vector(bias, residual.width))
        return
    y = b.linear(x, weight, "block_out")
    if b.weights.has(bias):
        b.add_bias(y, b.weights.vector(bias, y.width))
    add_scaled(b, residual, y, scale)


def gated_ffn(b: Builder, x: Rows, blk: str, n_ff: int, activation: str = "silu") -> Rows:
    """act(ffn_gate x) * (ffn_up x); the down projection is the caller's."""
    names = [f"{blk}.ffn_gate.weight", f"{blk}.ffn_up.weight"]
    gate, up = b.linears(x, names, (n_ff, n_ff), "gate_up")
    for part, n in ((gate, "gate"), (up, "up")):
        if b.weights.has(f"{blk}.ffn_{n}.bias"):
            b.add_bias(part, b.weights.vector(f"{blk}.ffn_{n}.bias", n_ff))
    return b.glu(activation, up, gate)


def output_head(
    b: Builder,
    hp: Hparams,
    x: Rows,
    capacity: int,
    norm_tensor: str = "output_norm.weight",
    scale: float = 1.0,
) -> Rows:
    """Logits of the output rows: scale * output W norm(x); without output.weight, W is token_embd.

    The scale is taken by the norm's weight: the same numbers but for rounding, and no extra pass.
    """
    weight = b.weights.vector(norm_tensor, hp.n_embd)
    if scale != 1.0:
        weight = b.weights.constant(weight * np.float32(scale))
    index = b.step_address("out_tokens")
    h = b.rms_norm(x, weight, hp.eps, "output_norm", index, "n_outputs", capacity)
    return logits(b, hp, h, capacity)


def logits(b: Builder, hp: Hparams, h: Rows, capacity: int) -> Rows:
    """output W h + output.bias, of normed output rows."""
    tied = not b.weights.has("output.weight")
    name = "token_embd.weight" if tied else "output.weight"
    out = b.linear(
        h, b.weights.matrix(name, hp.n_embd, hp.n_vocab), "logits", "n_outputs", capacity
    )
    if b.weights.has("output.bias"):
        b.add_bias(out, b.weights.vector("output.bias", hp.n_vocab), "n_outputs")
    return out
