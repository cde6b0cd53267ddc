"""graniteswitch (Granite Switch): granite's layers with adapters that tokens of the text call.

Each projection has a stack of low-rank adapters, the first of which is none. A token that calls one
is read as another token, and from it on the sequence takes that adapter: kernels/ops/moe/switch.py
tells which where several are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.lowering.attention import Rotation, attend, rotate_and_store
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import add_scaled
from slotmux.runtime.lowering.experts.moe import Groups
from slotmux.runtime.lowering.experts.switch import add_adapters, switched
from slotmux.runtime.models.blocks import attention_inputs, attention_shape, norm
from slotmux.runtime.models.dense.granite import head as head
from slotmux.runtime.models.dense.granite import normed as normed
from slotmux.runtime.models.dense.granite import rotation_if_trained
from slotmux.runtime.models.hparams import Hparams


@dataclass(frozen=True, slots=True)
class Adapters:
    """The file's adapters, and who takes which in a step."""

    n: int
    rank: int
    groups: Groups

    def add(self, b: Builder, x: Rows, outs: Sequence[tuple[str, Rows]]) -> None:
        """What they add to products of x."""
        add_adapters(b, self.groups, self.n, self.rank, x, outs)


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    n, rank = hp.u32("adapters.count"), hp.u32("adapters.lora_rank")
    called, instead = (
        b.buffers.table(f"adapters:{name}", hp.n_vocab, np.int32).array
        for name in ("called", "instead")
    )
    callers = token_ids(hp, "adapters.token_ids_activate", n)
    called[:], called[callers] = 0, np.arange(1, n + 1)
    instead[:] = np.arange(hp.n_vocab)
    instead[callers] = token_ids(hp, "adapters.token_ids_substitute", n)
    table = b.weights.matrix("token_embd.weight", hp.n_embd, hp.n_vocab)
    x = b.embed(table, hp.f32("embedding_scale", 0.0) or 1.0, instead=instead)
    adapters = Adapters(n, rank, switched(b, called, n))
    rope, scale = rotation_if_trained(b, hp), hp.f32("residual_scale", 0.0) or 1.0
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        a = attention(b, hp, layer, h, rope, adapters)
        project(b, adapters, a, f"{blk}.attn_output", x, scale)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        f = gated_ffn(b, adapters, h, blk, hp.n_ff[layer])
        project(b, adapters, f, f"{blk}.ffn_down", x, scale)
    return x


def token_ids(hp: Hparams, name: str, n: int) -> NDArray[np.int64]:
    """A token of the vocabulary for each adapter."""
    key = hp.key(name)
    ids = hp.metadata.get_array(key).astype(np.int64)
    if ids.shape != (n,) or not ((ids >= 0) & (ids < hp.n_vocab)).all():
        hp.metadata.refuse(key, f"{n} tokens of the vocabulary are needed")
    return ids


def attention(
    b: Builder, hp: Hparams, layer: int, h: Rows, rope: Rotation | None, adapters: Adapters
) -> Rows:
    """Softmax attention; the output projection is the caller's."""
    shape = attention_shape(hp, layer, rope)
    blk = f"blk.{layer}"
    q, k, v = attention_inputs(b, h, blk, shape.qkv_sizes)
    names = [f"{blk}.attn_{part}" for part in "qkv"]
    adapters.add(b, h, list(zip(names, (q, k, v), strict=True)))
    rotate_and_store(b, shape, q, k, v)
    return attend(b, shape, q)


def gated_ffn(b: Builder, adapters: Adapters, h: Rows, blk: str, n_ff: int) -> Rows:
    """silu(ffn_gate h) * (ffn_up h); the down projection is the caller's."""
    names = [f"{blk}.ffn_gate", f"{blk}.ffn_up"]
    parts = b.linears(h, [f"{name}.weight" for name in names], (n_ff, n_ff), "gate_up")
    adapters.add(b, h, list(zip(names, parts, strict=True)))
    gate, up = parts
    return b.glu("silu", up, gate)


def project(
    b: Builder, adapters: Adapters, x: Rows, tensor: str, residual: Rows, scale: float
) -> None:
    """residual += scale * (tensor x + what adapters add)"""
    weight = b.weights.matrix(f"{tensor}.weight", x.width, residual.width)
    y = b.linear(x, weight, "block_out")
    adapters.add(b, x, [(tensor, y)])
    add_scaled(b, residual, y, scale)
