"""rwkv6qwen2 (QRWKV6): Qwen2 with RWKV-6's mixing and gated linear attention in place of softmax.

Norms are RMS norms, q, k and v keep Qwen2's biases, and groups of heads share k and v. There is
no bonus for the token itself and no norm of heads, and keys shrink as decays grow.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.recurrent.rwkv import gated_linear
from slotmux.runtime.models.blocks import biased_linear, embedding, gated_ffn, norm, project
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.recurrent.rwkv6 import decays, head_size, mixed_inputs


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        project(b, time_mix(b, hp, layer, h), f"{blk}.time_mix_output.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        project(b, gated_ffn(b, h, blk, hp.n_ff[layer]), f"{blk}.ffn_down.weight", x)
    return x


def time_mix(b: Builder, hp: Hparams, layer: int, h: Rows) -> Rows:
    """The recurrence over r, k, v with decay w and gate g; the output projection is not here."""
    d, tensor = head_size(hp), f"blk.{layer}.time_mix"
    n_groups = hp.n_head_kv[layer] or hp.n_embd // d
    if (hp.n_embd // d) % n_groups:
        key = hp.key("attention.head_count_kv")
        hp.metadata.refuse(key, f"{n_groups} does not divide {hp.n_embd // d} heads")
    mixed = mixed_inputs(b, hp, tensor, h)
    r, k, v = (
        biased_linear(b, mixed[part], f"{tensor}_{name}", width, f"rwkv_{part}")
        for part, name, width in (
            ("r", "receptance", hp.n_embd),
            ("k", "key", n_groups * d),
            ("v", "value", n_groups * d),
        )
    )
    gate = b.weights.matrix(f"{tensor}_gate.weight", hp.n_embd, hp.n_embd)
    g = b.linear(mixed["g"], gate, "rwkv_g")
    return gated_linear(b, d, r, k, v, decays(b, hp, tensor, mixed["w"]), g)
