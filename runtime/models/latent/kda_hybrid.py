"""kimi-linear (Kimi Linear) and bailingmoe3 (Ling 3): Kimi Delta Attention and latent attention.

Most layers are linear attention with a recurrent state, the others latent attention: in Kimi Linear
without any rotation, in Ling 3 with one and a gate on each head. Then SwiGLU in the leading blocks,
in all others experts with a shared one.
"""

from __future__ import annotations

from slotmux.kernels.operands import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.recurrent.conv import short_conv
from slotmux.runtime.lowering.recurrent.delta_net import gated_norm
from slotmux.runtime.lowering.recurrent.kda import KdaShape, kda
from slotmux.runtime.models.blocks import embedding, norm, project
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.latent.blocks import (
    attention,
    feed_forward,
    latent_shape,
    refuse_unsupported,
)


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    refuse_unsupported(hp)
    x = embedding(b, hp)
    is_ling = hp.arch == "bailingmoe3"
    rope = rotation(hp, b.weights, neighbours=True) if is_ling else None
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        if hp.n_head_kv[layer]:
            a = attention(b, hp, latent_shape(hp, layer, rope), h)
        else:
            a = delta_attention(b, hp, layer, h)
        project(b, a, f"{blk}.attn_output.weight", x)
        feed_forward(b, hp, layer, x)
    return x


def kda_shape(hp: Hparams, layer: int) -> KdaShape:
    """The heads of a linear layer."""
    d = hp.u32("kda.head_dim")
    if d % 16:
        hp.metadata.refuse(hp.key("kda.head_dim"), f"{d} is no multiple of 16")
    bound = hp.f32("kda.gate_lower_bound") if hp.arch == "bailingmoe3" else 0.0
    if not hp.flag("kda.safe_gate", True):
        hp.metadata.refuse(hp.key("kda.safe_gate"), "gates without a bound are not supported")
    n_heads = hp.n_head[layer]
    if not n_heads:
        hp.metadata.refuse(hp.key("attention.head_count"), "a linear layer without heads")
    return KdaShape(n_heads, d, bound, hp.eps)


def delta_attention(b: Builder, hp: Hparams, layer: int, x: Rows) -> Rows:
    """Kimi Delta Attention; the output projection is the caller's."""
    blk, shape = f"blk.{layer}", kda_shape(hp, layer)
    n, n_heads = shape.width, shape.n_heads
    has_ranks = b.weights.has(f"{blk}.ssm_f_b.weight")  # gates by way of a few dimensions
    n_gate = shape.d if has_ranks else n
    names = [f"{blk}.attn_{name}.weight" for name in "qkv"]
    names += [f"{blk}.ssm_{name}.weight" for name in ("f_a", "g_a", "beta")]
    parts = b.linears(x, names, [n, n, n, n_gate, n_gate, n_heads], "kda_in")
    f, z, beta = parts[3:]
    if has_ranks:
        f = b.linear(f, b.weights.matrix(f"{blk}.ssm_f_b.weight", n_gate, n), "kda_f")
        z = b.linear(z, b.weights.matrix(f"{blk}.ssm_g_b.weight", n_gate, n), "kda_z")
    # q, k and v have a convolution each; channels do not touch each other.
    qkv = parts[0].columns(0, 3 * n)
    taps = [f"{blk}.ssm_conv1d_{name}.weight" for name in "qkv"]
    qkv = short_conv(b, qkv, taps, hp.u32("ssm.conv_kernel"), silu=True)
    heads = [qkv.columns(i * n, n) for i in range(3)]
    a = b.weights.vector(f"{blk}.ssm_a", 1, n_heads).reshape(-1)
    dt_bias = b.weights.vector(f"{blk}.ssm_dt.bias", n)
    y = kda(b, shape, heads, f, beta, a, dt_bias)
    weight = b.weights.vector(f"{blk}.ssm_norm.weight", shape.d)
    return gated_norm(b, y, z, weight, hp.eps, activation="sigmoid")
