"""nomic-bert and nomic-bert-moe (Nussbaum et al. 2024): bert's layers with a rotary embedding.

The first has SwiGLU without biases; the second GELU, in every other layer in experts (a softmax
over all of them, whose chosen weights are taken as they are).
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.models.blocks import gated_ffn, project
from slotmux.runtime.models.encoders.bert import gelu_ffn, post_norm_layers
from slotmux.runtime.models.encoders.blocks import attention_of_texts, text_embedding
from slotmux.runtime.models.hparams import Hparams, rotation


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one."""
    x = text_embedding(b, hp, has_positions=False)
    rope = rotation(hp, b.weights, neighbours=False)

    def attend(layer: int, x: Rows) -> Rows:
        return attention_of_texts(b, hp, layer, x, rope)

    return post_norm_layers(b, hp, x, attend, lambda layer, x: _feed_forward(b, hp, layer, x))


def _feed_forward(b: Builder, hp: Hparams, layer: int, x: Rows) -> None:
    blk, every = f"blk.{layer}", hp.u32("moe_every_n_layers", 0)
    if every and layer % every == 1:
        n_expert = hp.u32("expert_count", low=1)
        n_used = hp.u32("expert_used_count", low=1, high=n_expert)
        scale = hp.f32("expert_weights_scale", 0.0) or 1.0
        shape = MoeShape(
            n_expert, n_used, hp.n_ff[layer], renormalise=False, scale=scale,
            activation="gelu_erf", has_gate=False,
        )  # fmt: skip
        moe(b, blk, x, shape, x)
    elif b.weights.has(f"{blk}.ffn_gate.weight"):
        f = gated_ffn(b, x, blk, hp.n_ff[layer])
        project(b, f, f"{blk}.ffn_down.weight", x)
    else:
        gelu_ffn(b, hp, layer, x)
