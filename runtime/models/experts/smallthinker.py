"""smallthinker (SmallThinker): the router reads a layer's input before attention; ReGLU experts.

Every fourth layer sees everything and has no positions; the others have a window.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import moe, routed
from slotmux.runtime.models.blocks import embedding, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.moe_blocks import expert_shape

FULL_EVERY = 4  # not in the file: layers 0, 4, ...
WINDOW = 4096  # whatever the file says, as llama.cpp has it


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    has_window = hp.u32("attention.sliding_window", 0) > 0
    shape = expert_shape(hp, function=2, renormalise=True, activation="relu")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        is_local = layer % FULL_EVERY != 0
        groups = routed(b, blk, x, shape)
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        turned = rope if is_local or not has_window else None
        a = self_attention(b, hp, layer, h, turned, WINDOW if is_local and has_window else 0)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        moe(b, blk, h, shape, x, groups=groups)
    return x
