"""eurobert (Boizard et al. 2025), llama-embed and other decoders that were trained to see both
sides: RMS norms before each block, SwiGLU, a rotary embedding, over whole texts.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm, project
from slotmux.runtime.models.encoders.blocks import attention_of_texts
from slotmux.runtime.models.hparams import Hparams, rotation

# Whose rotary pairs are neighbours: llama's, see llama.py.
_NEIGHBOURS = ("llama", "llama-embed")


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one, normed."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, hp.arch in _NEIGHBOURS, n_ctx=b.n_ctx)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = attention_of_texts(b, hp, layer, h, rope)
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        f = gated_ffn(b, h, blk, hp.n_ff[layer])
        project(b, f, f"{blk}.ffn_down.weight", x)
    return norm(b, hp, x, "output_norm.weight")
