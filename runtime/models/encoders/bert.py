"""bert (Devlin et al. 2018; MiniLM, BGE, E5, GTE, XLM-RoBERTa and all that converters store under
this name): learned positions and token types; layer norms behind each block; GELU; biases.

Its relatives are in nomic_bert.py and jina_bert.py.
"""

from __future__ import annotations

from collections.abc import Callable

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.models.blocks import biased_linear, project
from slotmux.runtime.models.encoders.blocks import attention_of_texts, text_embedding
from slotmux.runtime.models.hparams import Hparams

Attend = Callable[[int, Rows], Rows]
FeedForward = Callable[[int, Rows], None]


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one."""
    x = text_embedding(b, hp, has_positions=True)

    def attend(layer: int, x: Rows) -> Rows:
        return attention_of_texts(b, hp, layer, x)

    return post_norm_layers(b, hp, x, attend, lambda layer, x: gelu_ffn(b, hp, layer, x))


def post_norm_layers(
    b: Builder, hp: Hparams, x: Rows, attend: Attend, feed_forward: FeedForward
) -> Rows:
    """The layer list that bert's relatives share: x = norm(x + block(x)), twice a layer.

    ``attend`` gives rows for the output projection, ``feed_forward`` adds to its rows.
    """
    x = layer_norm(b, x, "token_embd_norm", hp.eps, "x_ffn")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        project(b, attend(layer, x), f"{blk}.attn_output.weight", x)
        x = layer_norm(b, x, f"{blk}.attn_output_norm", hp.eps, "x_attn")
        feed_forward(layer, x)
        x = layer_norm(b, x, f"{blk}.layer_output_norm", hp.eps, "x_ffn")
    return x


def gelu_ffn(b: Builder, hp: Hparams, layer: int, x: Rows) -> None:
    """x += ffn_down gelu(ffn_up x), with biases if the file has them."""
    blk = f"blk.{layer}"
    up = biased_linear(b, x, f"{blk}.ffn_up", hp.n_ff[layer], "ffn_up")
    project(b, b.glu("gelu_erf", up, None), f"{blk}.ffn_down.weight", x)
