"""lfm2 and lfm2moe (Liquid LFM2): gated short convolutions, every few layers attention.

The final norm is called token_embd_norm; there is no norm after the embedding.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.lowering.recurrent.conv import short_conv
from slotmux.runtime.models.blocks import (
    embedding,
    gated_ffn,
    logits,
    norm,
    output_norm,
    project,
    self_attention,
)
from slotmux.runtime.models.hparams import Hparams, rotation

SCORES = {1: "softmax", 2: "sigmoid"}  # expert_gating_func


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    n_dense = hp.n_layers
    if hp.arch == "lfm2moe":
        n_dense = hp.u32("leading_dense_block_count", 0)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        if hp.n_head_kv[layer]:
            a = self_attention(b, hp, layer, h, rope)
            project(b, a, f"{blk}.attn_output.weight", x)
        else:
            project(b, gated_conv(b, hp, blk, h), f"{blk}.shortconv.out_proj.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        if layer < n_dense:
            project(b, gated_ffn(b, h, blk, hp.n_ff[layer]), f"{blk}.ffn_down.weight", x)
        else:
            moe(b, blk, h, moe_shape(hp), x)
    return x


def normed(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Output rows by the final norm under its other name."""
    return output_norm(b, hp, x, capacity, "token_embd_norm.weight")


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits of these."""
    return logits(b, hp, normed(b, hp, x, capacity))


def gated_conv(b: Builder, hp: Hparams, blk: str, h: Rows) -> Rows:
    """C * conv(B * x) of B | C | x = in_proj h; the output projection is the caller's."""
    n = hp.n_embd
    n_taps = hp.u32("shortconv.l_cache")
    weight = b.weights.matrix(f"{blk}.shortconv.in_proj.weight", n, 3 * n)
    bcx = b.linear(h, weight, "bcx")
    # B gates what enters the convolution, C what leaves it; neither gate has an activation.
    before, after, x = (bcx.columns(i * n, n) for i in range(3))
    return short_conv(
        b, x, f"{blk}.shortconv.conv.weight", n_taps, factor=before, gate=after, name="shortconv"
    )


def moe_shape(hp: Hparams) -> MoeShape:
    """How experts are chosen: by default a sigmoid each, the chosen ones renormalised."""
    n_expert = hp.u32("expert_count", low=1)
    function = hp.u32("expert_gating_func", 2)
    if function not in SCORES:
        hp.metadata.refuse(hp.key("expert_gating_func"), f"{function} is not supported")
    return MoeShape(
        n_expert=n_expert,
        n_used=hp.u32("expert_used_count", low=1, high=n_expert),
        n_ff=hp.u32("expert_feed_forward_length"),
        scores=SCORES[function],
    )
