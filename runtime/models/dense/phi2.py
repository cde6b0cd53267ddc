"""phi2 (Phi-1, 1.5 and 2): attention and feed-forward side by side on one layer norm.

Biases everywhere, the output matrix included; rotary pairs in halves over a part of each head.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm, layer_norm_outputs
from slotmux.runtime.models.blocks import biased_linear, embedding, logits, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = layer_norm(b, x, f"{blk}.attn_norm", layer_norm_eps(hp))
        # Both read h, and x changes only when both are there: one norm serves them.
        a = self_attention(b, hp, layer, h, rope)
        up = biased_linear(b, h, f"{blk}.ffn_up", hp.n_ff[layer], "ffn_up")
        f = b.glu("gelu", up, None)
        project(b, a, f"{blk}.attn_output.weight", x)
        project(b, f, f"{blk}.ffn_down.weight", x)
    return x


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """output W layer_norm(x) + output.bias"""
    return logits(b, hp, layer_norm_outputs(b, x, "output_norm", layer_norm_eps(hp), capacity))


def layer_norm_eps(hp: Hparams) -> float:
    """The eps of layer norms, which has a key of its own."""
    return hp.f32("attention.layer_norm_epsilon")
