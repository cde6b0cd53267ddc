"""gpt-oss (OpenAI 2025): sinks in attention, a window on every other layer; experts with biases.

Experts are chosen by their logits, the softmax is over the chosen ones. Their SwiGLU is clamped.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation

FULL_EVERY = 2  # not in the file: even layers have the window


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    window = hp.u32("attention.sliding_window")
    shape = moe_shape(hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        sees_all = (layer + 1) % FULL_EVERY == 0
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = self_attention(b, hp, layer, h, rope, 0 if sees_all else window, has_sinks=True)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.post_attention_norm.weight")
        moe(b, blk, h, shape, x)
    return x


def moe_shape(hp: Hparams) -> MoeShape:
    """The clamped SwiGLU's constants are not in the file."""
    n_expert = hp.u32("expert_count", low=1)
    return MoeShape(
        n_expert=n_expert,
        n_used=hp.u32("expert_used_count", low=1, high=n_expert),
        n_ff=hp.u32("expert_feed_forward_length"),
        scores="chosen",
        renormalise=False,
        activation="swiglu_oai",
    )
