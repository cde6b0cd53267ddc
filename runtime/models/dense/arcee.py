"""arcee (AFM-4.5B): llama's attention; the feed-forward has no gate, down(relu(up x)^2)."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import biased_linear
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=True, feed_forward=squared_relu)


def squared_relu(b: Builder, hp: Hparams, layer: int, h: Rows) -> Rows:
    """relu(ffn_up h)^2"""
    return b.glu("relu2", biased_linear(b, h, f"blk.{layer}.ffn_up", hp.n_ff[layer], "up"), None)
