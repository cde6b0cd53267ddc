"""falcon (Falcon 7B, 40B, 180B): attention and feed-forward side by side, no biases but in norms.

7B has one KV head and one norm; 40B and 180B have groups, and a second norm, which is attention's.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.models.blocks import embedding, project, self_attention
from slotmux.runtime.models.dense.layer_normed.layers import (
    layer_normed_head,
    layer_normed_outputs,
    plain_ffn,
)
from slotmux.runtime.models.hparams import Hparams, rotation

head, normed = layer_normed_head, layer_normed_outputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = layer_norm(b, x, f"{blk}.attn_norm", hp.eps)
        seen = h
        if b.weights.optional(f"{blk}.attn_norm_2.weight"):
            seen = layer_norm(b, x, f"{blk}.attn_norm_2", hp.eps, "attn_norm_2")
        a = self_attention(b, hp, layer, seen, rope)
        f = plain_ffn(b, hp, layer, h, "gelu_erf")
        project(b, a, f"{blk}.attn_output.weight", x)
        project(b, f, f"{blk}.ffn_down.weight", x)
    return x
