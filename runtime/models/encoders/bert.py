"""bert (Devlin et al. 2018; MiniLM, BGE, E5, GTE and all that converters store under this name).

Learned positions and token types; layer norms behind each block; GELU; biases everywhere.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.models.blocks import biased_linear, project
from slotmux.runtime.models.encoders.blocks import attention_of_texts, text_embedding
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one."""
    x = text_embedding(b, hp, has_positions=True)
    x = layer_norm(b, x, "token_embd_norm", hp.eps, "x_ffn")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        a = attention_of_texts(b, hp, layer, x)
        project(b, a, f"{blk}.attn_output.weight", x)
        x = layer_norm(b, x, f"{blk}.attn_output_norm", hp.eps, "x_attn")
        up = biased_linear(b, x, f"{blk}.ffn_up", hp.n_ff[layer], "ffn_up")
        project(b, b.glu("gelu_erf", up, None), f"{blk}.ffn_down.weight", x)
        x = layer_norm(b, x, f"{blk}.layer_output_norm", hp.eps, "x_ffn")
    return x
