"""rwkv7 (RWKV-7 Goose): like rwkv6, with a delta rule whose rate and decay are vectors.

From the second layer on, values are drawn towards the first layer's.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import elementwise, in_place
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.lowering.recurrent.rwkv import token_shift, wkv7
from slotmux.runtime.models.blocks import embedding, project
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.recurrent.rwkv6 import head as head
from slotmux.runtime.models.recurrent.rwkv6 import head_size
from slotmux.runtime.models.recurrent.rwkv6 import normed as normed

PARTS = "rwkvag"  # order of lerp_fused
# -e^-0.5: decays exp(factor * sigmoid(...)) stay above 0.545, a token forgets less than half
# (Peng et al. 2025, RWKV-7 Goose, arXiv 2503.14456).
DECAY_FACTOR = -0.6065306597126334


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    eps = hp.eps
    x = layer_norm(b, embedding(b, hp), "token_embd_norm", eps, "residual")
    v_first: Rows | None = None
    # Placeholders: there is no layer before the first one, whose values its own could be drawn to.
    b.weights.skip("blk.0.time_mix_v[012].weight")
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = layer_norm(b, x, f"{blk}.attn_norm", eps)
        y, v = time_mix(b, hp, blk, h, v_first)
        v_first = v_first or v
        project(b, y, f"{blk}.time_mix_output.weight", x)
        h = layer_norm(b, x, f"{blk}.attn_norm_2", eps)
        channel_mix(b, hp, layer, h, x)
    return x


def time_mix(
    b: Builder, hp: Hparams, blk: str, h: Rows, v_first: Rows | None,
    *, has_gate: bool = True, has_norm: bool = True,
) -> tuple[Rows, Rows]:  # fmt: skip
    """The recurrence, and the layer's v; the output projection is the caller's."""
    n, tensor = hp.n_embd, f"{blk}.time_mix"
    dx = token_shift(b, h)
    parts = PARTS if has_gate else PARTS.removesuffix("g")
    lerps = b.weights.vector(f"{tensor}_lerp_fused.weight", n, 1, 1, len(parts))
    mixed = {
        part: elementwise(b, "lerp", h, f"mixed_{part}", y=dx, v=lerps.reshape(len(parts), n)[i])
        for i, part in enumerate(parts)
    }
    r, k = (
        b.linear(mixed[part], b.weights.matrix(f"{tensor}_{name}.weight", n, n), f"rwkv_{part}")
        for part, name in (("r", "receptance"), ("k", "key"))
    )
    values = b.weights.matrix(f"{tensor}_value.weight", n, n)
    # The first layer's values are read by all later ones: a buffer that none of them writes.
    v = b.linear(mixed["v"], values, "v_first" if v_first is None else "rwkv_v")
    if v_first is not None:
        rank = hp.u32("attention.value_residual_mix_lora_rank")
        share = low_rank(b, tensor, "v", mixed["v"], rank)
        v0 = b.weights.vector(f"{tensor}_v0.weight", n)
        in_place(b, "mix_bias", v, y=v_first, z=share, v=v0)
    w = low_rank(b, tensor, "w", mixed["w"], hp.u32("attention.decay_lora_rank"), "tanh")
    w0 = b.weights.vector(f"{tensor}_w0.weight", n)
    in_place(b, "decay_sigmoid", w, v=w0, scalar=DECAY_FACTOR)
    a = low_rank(b, tensor, "a", mixed["a"], hp.u32("attention.iclr_lora_rank"))
    in_place(b, "sigmoid_bias", a, v=b.weights.vector(f"{tensor}_a0.weight", n))
    g = None
    if has_gate:
        g = low_rank(b, tensor, "g", mixed["g"], hp.u32("attention.gate_lora_rank"), "sigmoid")
    return wkv7(b, blk, head_size(hp), r, k, v, w, a, g, has_norm=has_norm), v


def low_rank(b: Builder, tensor: str, part: str, x: Rows, rank: int, activation: str = "") -> Rows:
    """``part``2 activation(``part``1 x)"""
    w1 = b.weights.matrix(f"{tensor}_{part}1.weight", x.width, rank)
    low = b.linear(x, w1, f"low_{part}")
    if activation:
        in_place(b, activation, low)
    w2 = b.weights.matrix(f"{tensor}_{part}2.weight", rank, x.width)
    return b.linear(low, w2, f"rwkv_{part}_low")


def channel_mix(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows) -> None:
    """x += value relu(key xk)^2"""
    n, n_ff, tensor = hp.n_embd, hp.n_ff[layer], f"blk.{layer}.channel_mix"
    lerp = b.weights.vector(f"{tensor}_lerp_k.weight", n)
    mixed = elementwise(b, "lerp", h, "mixed_k", y=token_shift(b, h), v=lerp)
    k = b.linear(mixed, b.weights.matrix(f"{tensor}_key.weight", n, n_ff), "ffn_up")
    project(b, b.glu("relu2", k, None), f"{tensor}_value.weight", x)
