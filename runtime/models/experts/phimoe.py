"""phimoe (Phi-3.5-MoE, Phi-mini-MoE): layer norms and biases; two experts a token.

Experts are chosen and weighed by SparseMixer-v2 (arXiv 2409.12136), as the models were trained and
as transformers has it. llama.cpp has an RMS norm and the softmax of the two instead: other logits.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.models.blocks import embedding, project, self_attention
from slotmux.runtime.models.dense.layer_normed.layers import (
    layer_normed_head,
    layer_normed_outputs,
)
from slotmux.runtime.models.hparams import Hparams, rotation

head, normed = layer_normed_head, layer_normed_outputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False, n_ctx=b.n_ctx)
    window = hp.u32("attention.sliding_window", 0)
    n_expert = hp.u32("expert_count", low=1)
    n_used = hp.u32("expert_used_count", low=1, high=n_expert)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        shape = MoeShape(n_expert, n_used, hp.n_ff[layer], scores="sparsemixer", renormalise=False)
        h = layer_norm(b, x, f"{blk}.attn_norm", hp.eps)
        project(b, self_attention(b, hp, layer, h, rope, window), f"{blk}.attn_output.weight", x)
        moe(b, blk, layer_norm(b, x, f"{blk}.ffn_norm", hp.eps, "ffn_norm"), shape, x)
    return x
