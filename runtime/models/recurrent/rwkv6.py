"""rwkv6 (RWKV-6 Finch): no attention, no positions; a state per head that decays by the data.

Every part of a layer mixes its input with the previous token's, the five of time mixing by
amounts that a low-rank network computes from both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import elementwise, in_place
from slotmux.runtime.lowering.layer_norm import layer_norm, layer_norm_outputs
from slotmux.runtime.lowering.recurrent.rwkv import token_shift, wkv6
from slotmux.runtime.lowering.weights import Panels
from slotmux.runtime.models.blocks import embedding, logits, project
from slotmux.runtime.models.hparams import Hparams

PARTS = "wkvrg"  # order of lerp_fused and of w2


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    eps, n_rescale = hp.eps, hp.u32("rescale_every_n_layers", 0)
    x = layer_norm(b, embedding(b, hp), "token_embd_norm", eps, "residual")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = layer_norm(b, x, f"{blk}.attn_norm", eps)
        y = time_mix(b, hp, blk, h)
        project(b, y, f"{blk}.time_mix_output.weight", x)
        h = layer_norm(b, x, f"{blk}.attn_norm_2", eps)
        channel_mix(b, hp, layer, h, x)
        if n_rescale and (layer + 1) % n_rescale == 0:  # keeps float16 runtimes in range
            in_place(b, "scale", x, scalar=0.5)
    return x


def normed(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """layer_norm(x) of the output rows"""
    return layer_norm_outputs(b, x, "output_norm", hp.eps, capacity)


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """output W layer_norm(x)"""
    return logits(b, hp, normed(b, hp, x, capacity))


def head_size(hp: Hparams) -> int:
    """Width of a head; refuses one that does not divide the embedding."""
    d = hp.u32("wkv.head_size")
    if hp.n_embd % d:
        hp.metadata.refuse(hp.key("wkv.head_size"), f"{d} does not divide {hp.n_embd}")
    return d


def time_mix(b: Builder, hp: Hparams, blk: str, h: Rows) -> Rows:
    """The recurrence over r, k, v with decay w and gate g, normed and gated."""
    n, tensor = hp.n_embd, f"{blk}.time_mix"
    mixed = mixed_inputs(b, hp, tensor, h)
    inputs = {
        name: b.linear(
            mixed[name], b.weights.matrix(f"{tensor}_{full}.weight", n, n), f"rwkv_{name}"
        )
        for name, full in (("r", "receptance"), ("k", "key"), ("v", "value"), ("g", "gate"))
    }
    w = decays(b, hp, tensor, mixed["w"])
    return wkv6(b, blk, head_size(hp), w=w, **inputs)


def decays(b: Builder, hp: Hparams, tensor: str, x: Rows) -> Rows:
    """exp(-exp(bias + w2 tanh(w1 x))): they depend on the data through a narrow waist
    (Peng et al. 2024, Eagle and Finch, arXiv 2404.05892, section 4)."""
    n, low = hp.n_embd, hp.u32("time_decay_extra_dim")
    w = b.linear(x, b.weights.matrix(f"{tensor}_decay_w1.weight", n, low), "decay_low")
    in_place(b, "tanh", w)
    w = b.linear(w, b.weights.matrix(f"{tensor}_decay_w2.weight", low, n), "rwkv_w")
    in_place(b, "decay", w, v=b.weights.vector(f"{tensor}_decay.weight", n))
    return w


def mixed_inputs(b: Builder, hp: Hparams, tensor: str, h: Rows) -> dict[str, Rows]:
    """h + dx * (lerp + w2 tanh(w1 (h + dx * lerp_x))) for each of the five parts."""
    n, rank = hp.n_embd, hp.u32("time_mix_extra_dim")
    dx = token_shift(b, h)
    both = elementwise(
        b, "lerp", h, "mixed", y=dx, v=b.weights.vector(f"{tensor}_lerp_x.weight", n)
    )
    w1 = b.weights.matrix(f"{tensor}_w1.weight", n, rank * len(PARTS))
    low = b.linear(both, w1, "mix_low")
    in_place(b, "tanh", low)
    # Five small matrices in one tensor, laid out like a layer's experts: each is used by itself.
    w2 = b.weights.experts([f"{tensor}_w2.weight"], rank, [n], len(PARTS))
    mixed = {}
    for i, part in enumerate(PARTS):
        panels = Panels(w2.address + i * w2.expert_bytes, w2.format, rank, n)
        delta = b.linear(low.columns(i * rank, rank), panels, f"delta_{part}")
        v = lerp_vector(b, tensor, i, n)
        mixed[part] = elementwise(b, "lerp_delta", h, f"mixed_{part}", y=dx, z=delta, v=v)
    return mixed


def lerp_vector(b: Builder, tensor: str, i: int, n: int) -> NDArray[np.float32]:
    """Part i's fixed amount: a row of lerp_fused, or in older files a tensor of its own."""
    if b.weights.has(f"{tensor}_lerp_fused.weight"):
        fused = b.weights.vector(f"{tensor}_lerp_fused.weight", n, 1, 1, len(PARTS))
        row: NDArray[np.float32] = fused.reshape(len(PARTS), n)[i]
        return row
    return b.weights.vector(f"{tensor}_lerp_{PARTS[i]}.weight", n)


def channel_mix(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows) -> None:
    """x += sigmoid(receptance xr) * (value relu(key xk)^2)"""
    n, n_ff, tensor = hp.n_embd, hp.n_ff[layer], f"blk.{layer}.channel_mix"
    dx = token_shift(b, h)
    mixed = {
        part: elementwise(
            b, "lerp", h, f"mixed_{part}", y=dx,
            v=b.weights.vector(f"{tensor}_lerp_{part}.weight", n),
        )
        for part in "rk"
    }  # fmt: skip
    r = b.linear(mixed["r"], b.weights.matrix(f"{tensor}_receptance.weight", n, n), "rwkv_r")
    k = b.linear(mixed["k"], b.weights.matrix(f"{tensor}_key.weight", n, n_ff), "ffn_up")
    k = b.glu("relu2", k, None)
    y = b.linear(k, b.weights.matrix(f"{tensor}_value.weight", n_ff, n), "block_out")
    in_place(b, "add_gated", x, y=y, z=r)
