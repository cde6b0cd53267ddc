"""jina-bert-v2 (Günther et al. 2023) and jina-bert-v3 (Sturua et al. 2024): bert's relatives.

v2 has no positions but a penalty of the distance (ALiBi), and GEGLU; v3 is bert with a rotary
embedding. (The version of v2 for code has further norms, which make loading fail.)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.exact import power
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.models.blocks import biased_linear, project
from slotmux.runtime.models.encoders.bert import gelu_ffn, post_norm_layers
from slotmux.runtime.models.encoders.blocks import attention_of_texts, text_embedding
from slotmux.runtime.models.hparams import Hparams, rotation

MAX_BIAS = 8.0  # of ALiBi; not in the file


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one."""
    x = text_embedding(b, hp, has_positions=False)
    if hp.arch == "jina-bert-v2":
        return _v2_layers(b, hp, x)
    rope = rotation(hp, b.weights, neighbours=False)

    def attend(layer: int, x: Rows) -> Rows:
        return attention_of_texts(b, hp, layer, x, rope)

    return post_norm_layers(b, hp, x, attend, lambda layer, x: gelu_ffn(b, hp, layer, x))


def _v2_layers(b: Builder, hp: Hparams, x: Rows) -> Rows:
    x = layer_norm(b, x, "token_embd_norm", hp.eps, "x_ffn")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        slopes = b.weights.constant(alibi_slopes(hp.heads(layer)[0]))
        a = attention_of_texts(b, hp, layer, x, slopes=slopes)
        project(b, a, f"{blk}.attn_output.weight", x)
        x = layer_norm(b, x, f"{blk}.attn_output_norm", hp.eps, "x_attn")
        _geglu_ffn(b, hp, layer, x)
        x = layer_norm(b, x, f"{blk}.layer_output_norm", hp.eps, "x_ffn")
    return x


def _geglu_ffn(b: Builder, hp: Hparams, layer: int, x: Rows) -> None:
    """x += ffn_down (gelu(gate) * up), the gate in a matrix of its own or in front of up in one."""
    blk, n_ff = f"blk.{layer}", hp.n_ff[layer]
    if b.weights.has(f"{blk}.ffn_gate.weight"):
        gate = biased_linear(b, x, f"{blk}.ffn_gate", n_ff, "ffn_gate")
        up = biased_linear(b, x, f"{blk}.ffn_up", n_ff, "ffn_up")
    else:
        both = biased_linear(b, x, f"{blk}.ffn_up", 2 * n_ff, "gate_up")
        gate, up = both.columns(0, n_ff), both.columns(n_ff, n_ff)
    project(b, b.glu("gelu_erf", up, gate), f"{blk}.ffn_down.weight", x)


def alibi_slopes(n_head: int) -> NDArray[np.float32]:
    """A geometric series for a power of two of heads, and every other number of the next series for
    those beyond it (Press et al. 2021, in the authors' code)."""
    n = 1 << int(math.log2(n_head))
    first = [power(2.0, -MAX_BIAS * (h + 1) / n) for h in range(min(n, n_head))]
    more = [power(2.0, -MAX_BIAS / 2 * (2 * h + 1) / n) for h in range(n_head - n)]
    return np.array(first + more, np.float32)
