"""modern-bert (Warner et al. 2024): norms before each block, GEGLU, a rotary embedding.

One layer that sees the whole text to two that see some tokens to either side, with a rotary base of
their own. Without biases; the first layer has no norm before its attention.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.lowering.pooling import RankHead
from slotmux.runtime.models.blocks import biased_linear, project
from slotmux.runtime.models.encoders.blocks import attention_of_texts, is_windowed, text_embedding
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.pooling import Pooling

GLOBAL_EVERY = 3
RANK_HEAD = RankHead(Pooling.MEAN, "gelu_erf")
ACTIVATIONS = {"gelu": "gelu_erf", "silu": "silu"}


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the rows of the last one, normed."""
    x = text_embedding(b, hp, has_positions=False)
    x = layer_norm(b, x, "token_embd_norm", hp.eps, "x")
    window = hp.u32("attention.sliding_window", 0)
    everywhere = rotation(hp, b.weights, neighbours=False)
    local = everywhere
    if hp.key("rope.freq_base_swa") in hp.metadata:
        local = rotation(hp, b.weights, False, base=hp.f32("rope.freq_base_swa"))
    name = hp.metadata.get_str(hp.key("hidden_activation"), "gelu")
    if name not in ACTIVATIONS:
        hp.metadata.refuse(hp.key("hidden_activation"), f"{name[:40]!a} is not supported")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        is_local = bool(window) and is_windowed(hp, layer, GLOBAL_EVERY, sees_all_first=True)
        has_norm = layer > 0 or b.weights.has(f"{blk}.attn_norm.weight")
        h = layer_norm(b, x, f"{blk}.attn_norm", hp.eps) if has_norm else x
        a = attention_of_texts(
            b, hp, layer, h, local if is_local else everywhere, window // 2 if is_local else 0
        )
        project(b, a, f"{blk}.attn_output.weight", x)
        h = layer_norm(b, x, f"{blk}.ffn_norm", hp.eps)
        n_ff = hp.n_ff[layer]
        both = biased_linear(b, h, f"{blk}.ffn_up", 2 * n_ff, "gate_up")
        f = b.glu(ACTIVATIONS[name], both.columns(n_ff, n_ff), both.columns(0, n_ff))
        project(b, f, f"{blk}.ffn_down.weight", x)
    return layer_norm(b, x, "output_norm", hp.eps)
