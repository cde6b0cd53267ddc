"""The layer list that families with layer norms share: blocks in turn, or side by side."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.head_norm import norm_heads
from slotmux.runtime.lowering.layer_norm import layer_norm, layer_norm_outputs
from slotmux.runtime.models.blocks import biased_linear, logits, project
from slotmux.runtime.models.dense.normed_blocks import Block
from slotmux.runtime.models.hparams import Hparams


def layers(
    b: Builder, hp: Hparams, x: Rows, attend: Block, feed_forward: Block, *, is_parallel: bool
) -> Rows:
    """x += block(norm(x)) twice a layer; ``is_parallel``: both blocks of the same x. Returns x.

    A layer without a norm of its own for the feed-forward has one for both."""
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = layer_norm(b, x, f"{blk}.attn_norm", hp.eps)
        a = attend(layer, h)
        if not is_parallel:
            project(b, a, f"{blk}.attn_output.weight", x)
        if b.weights.optional(f"{blk}.ffn_norm.weight"):
            h = layer_norm(b, x, f"{blk}.ffn_norm", hp.eps, "ffn_norm")
        f = feed_forward(layer, h)
        # x changes only when both have read it.
        if is_parallel:
            project(b, a, f"{blk}.attn_output.weight", x)
        project(b, f, f"{blk}.ffn_down.weight", x)
    return x


def plain_ffn(b: Builder, hp: Hparams, layer: int, h: Rows, activation: str) -> Rows:
    """act(ffn_up h), without a gate."""
    up = biased_linear(b, h, f"blk.{layer}.ffn_up", hp.n_ff[layer], "ffn_up")
    return b.glu(activation, up, None)


def heads_normed(b: Builder, hp: Hparams, layer: int) -> Callable[[Rows, Rows], None]:
    """What self_attention does to q and k: layer norms of their heads, if the file has them."""

    def prepare(q: Rows, k: Rows) -> None:
        for rows, name in ((q, f"blk.{layer}.attn_q_norm"), (k, f"blk.{layer}.attn_k_norm")):
            if b.weights.optional(f"{name}.weight"):
                norm_heads(b, rows, f"{name}.weight", hp.head_dim, hp.eps)

    return prepare


def layer_normed_outputs(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """layer_norm(x) of the output rows"""
    return layer_norm_outputs(b, x, "output_norm", hp.eps, capacity)


def layer_normed_head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """output W layer_norm(x) + output.bias"""
    return logits(b, hp, layer_normed_outputs(b, hp, x, capacity))
