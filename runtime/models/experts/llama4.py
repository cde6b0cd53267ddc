"""llama4 (Llama 4 Scout, Maverick): three layers that see their chunk of 8192 to one that sees all.

The latter has no rotation, and queries that grow with their position. A token takes one expert,
whose input is multiplied by the sigmoid of its score, and a shared one.
"""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.moe.weigh import Weigh
from slotmux.runtime.lowering.attention import Rotation, attend, rotate_and_store
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe, routed
from slotmux.runtime.lowering.positions import temper
from slotmux.runtime.models.blocks import (
    attention_inputs,
    attention_shape,
    embedding,
    gated_ffn,
    norm,
    project,
)
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import dense_layer, expert_shape

# Not in the file.
FULL_EVERY, CHUNK = 4, 8192
GROWTH, EVERY = 0.1, 8192  # of the queries that see everything
N_EXPERTS_UNNORMED = 128  # Maverick's q and k are not normed


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=True, n_ctx=b.n_ctx)
    shape = expert_shape(hp, function=2)
    if shape.n_used != 1:
        key = hp.key("expert_used_count")
        hp.metadata.refuse(key, f"{shape.n_used}, but a weight stands before its expert: only 1")
    every = hp.u32("interleave_moe_layer_step", 1)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = attention(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        if (layer + 1) % every:
            dense_layer(b, hp, layer, h, x)
        else:
            feed_forward(b, blk, h, x, shape)
    return x


def attention(b: Builder, hp: Hparams, layer: int, x: Rows, rope: Rotation) -> Rows:
    """Over the chunk and rotated, or over everything and as it is."""
    # A window of 0 in the file means that no layer is special.
    is_plain = hp.u32("attention.sliding_window", 1) == 0
    sees_all = (layer + 1) % FULL_EVERY == 0
    rotates = is_plain or not sees_all
    window = 0 if is_plain or sees_all else -CHUNK
    shape = attention_shape(hp, layer, rope if rotates else None, window)
    q, k, v = attention_inputs(b, x, f"blk.{layer}", shape.qkv_sizes)
    ones = None
    if rotates and hp.u32("expert_count") != N_EXPERTS_UNNORMED:
        ones = b.weights.constant(np.ones(hp.head_dim, np.float32))
    if not rotates:
        temper(b, q, GROWTH, EVERY, offset=1)
    rotate_and_store(b, shape, q, k, v, ones, ones, norms_last=True)
    return attend(b, shape, q)


def feed_forward(b: Builder, blk: str, h: Rows, x: Rows, shape: MoeShape) -> None:
    """x += shared expert of h + the chosen expert of h times its weight"""
    f = gated_ffn(b, h, blk, shape.n_ff, suffix="_shexp")
    project(b, f, f"{blk}.ffn_down_shexp.weight", x)
    groups = routed(b, blk, h, shape)
    weighed = b.buffers.rows("weighed", h.width)
    b.append(Weigh(x=h, weights=groups.weights, out=weighed))
    moe(b, blk, weighed, shape, x, groups=groups)
