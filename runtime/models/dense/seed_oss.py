"""seed_oss (Seed-OSS-36B): qwen2's layers; the feed-forward's norm has another name."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=False, ffn_norm="post_attention_norm")
