"""Layers whose blocks are normed before they are added: Gemma 2 and 3, GLM 4, OLMo 2, EXAONE 4."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import biased_linear, norm
from slotmux.runtime.models.hparams import Hparams

# What a block makes of a layer's rows, before its last projection.
Block = Callable[[int, Rows], Rows]


def normed_layers(
    b: Builder, hp: Hparams, x: Rows, attend: Block, feed_forward: Block, *, norms_first: bool
) -> Rows:
    """x += norm(block(x)) twice a layer; with ``norms_first`` blocks get norm(x). Returns x."""
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight") if norms_first else x
        y = biased_linear(b, attend(layer, h), f"{blk}.attn_output", hp.n_embd, "block_out")
        add_normed(b, hp, x, y, f"{blk}.post_attention_norm.weight")
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight") if norms_first else x
        y = biased_linear(b, feed_forward(layer, h), f"{blk}.ffn_down", hp.n_embd, "block_out")
        add_normed(b, hp, x, y, f"{blk}.post_ffw_norm.weight")
    return x


def add_normed(b: Builder, hp: Hparams, x: Rows, y: Rows, tensor: str) -> None:
    """x += norm(y)"""
    b.rms_norm_to(y, b.weights.vector(tensor, hp.n_embd), hp.eps, x, add=True)
