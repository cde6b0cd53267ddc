"""arwkv7 (ARWKV): Qwen2 with RWKV-7's time mixing in place of attention, and its own MLP.

Norms are RMS norms. A model may do without the norm of heads, and without the gate.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm, project
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.recurrent.rwkv7 import time_mix


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    v_first: Rows | None = None
    # Placeholders: there is no layer before the first one, whose values its own could be drawn to.
    b.weights.skip("blk.0.time_mix_v[012].weight")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        has_gate = b.weights.optional(f"{blk}.time_mix_g1.weight")
        has_norm = b.weights.optional(f"{blk}.time_mix_ln.weight")
        y, v = time_mix(b, hp, blk, h, v_first, has_gate=has_gate, has_norm=has_norm)
        v_first = v_first or v
        project(b, y, f"{blk}.time_mix_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        project(b, gated_ffn(b, h, blk, hp.n_ff[layer]), f"{blk}.ffn_down.weight", x)
    return x
