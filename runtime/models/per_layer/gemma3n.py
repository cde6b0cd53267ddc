"""gemma3n (Gemma 3n: E2B, E4B): four residual streams, one of which the layers work on.

Before a layer all streams are predicted from each other, afterwards corrected (AltUp). A low-rank
path beside attention (LAuReL), sparse gates in the first layers, embeddings of each layer's own.
"""

from __future__ import annotations

import math

import numpy as np

from slotmux.kernels.ops.dense.altup import AltupCorrect, AltupPredict, GaussianTopK, MatchMagnitude
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import elementwise, in_place
from slotmux.runtime.lowering.per_layer import per_layer_inputs
from slotmux.runtime.models.blocks import embedding, norm
from slotmux.runtime.models.dense.normed_blocks import add_normed
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.per_layer.gemma4 import Kind, attention, head, normed, source

__all__ = ["head", "lower", "normed"]

FULL_EVERY = 5  # where the file does not say which layers have a window
N_OWN = 20  # layers with cells of their own, where it does not say that
SPARSITY, N_SPARSE = 1.6448533535003662, 10  # deviations of 95 %, where it does not say


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the mean of the streams."""
    if hp.n_embd % 16:
        hp.metadata.refuse(hp.key("embedding_length"), f"{hp.n_embd} is no multiple of 16")
    n = hp.u32("altup.num_inputs", 4, low=2)
    active = hp.u32("altup.active_idx", 0, high=n - 1)
    x0 = embedding(b, hp, math.sqrt(hp.n_embd))
    d = hp.u32("embedding_length_per_layer_input", 256)
    inputs = per_layer_inputs(b, x0, d, hp.n_layers, hp.n_vocab, hp.eps)
    x = streams(b, hp, x0, n)
    is_local, kinds = windows(b, hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        now = stream(hp, x, active)
        p = b.buffers.rows("predictions", x.width)
        mix = coefficients(b, hp, blk, now, "predict", n * n)
        b.append(AltupPredict(x=x, n_streams=n, coef=mix, out=p))
        h = norm(b, hp, stream(hp, p, active), f"{blk}.attn_norm.weight")
        y = attention_and_laurel(b, hp, layer, h, stream(hp, p, active), kinds, is_local)
        feed_forward(b, hp, layer, y)
        mix = coefficients(b, hp, blk, y, "correct", n)
        b.append(AltupCorrect(x=p, n_streams=n, y=y, active=active, coef=mix))
        add_per_layer(b, hp, layer, p, n, active, inputs)
        in_place(b, "copy", x.columns(0, x.width), y=p)
    return mean_of(b, hp, x, n, active)


def stream(hp: Hparams, x: Rows, i: int) -> Rows:
    """One of the residual streams, as it is now."""
    return x.columns(i * hp.n_embd, hp.n_embd)


def streams(b: Builder, hp: Hparams, x0: Rows, n: int) -> Rows:
    """The embedding, and its projections of the same magnitude."""
    x = b.buffers.rows("streams", n * hp.n_embd)
    in_place(b, "copy", stream(hp, x, 0), y=x0)
    projections(b, hp, "altup_proj.weight", [x0] * (n - 1), [stream(hp, x, i) for i in range(1, n)])
    for i in range(1, n):
        b.append(MatchMagnitude(x=stream(hp, x, i), y=x0))
    return x


def projections(b: Builder, hp: Hparams, name: str, x: list[Rows], out: list[Rows]) -> None:
    """out[i] = W[i] x[i], of matrices that stand in one tensor."""
    weights = b.weights.stack(name, hp.n_embd, hp.n_embd, len(x))
    for weight, rows, y in zip(weights, x, out, strict=True):
        b.linear(rows.columns(0, rows.width), weight, y)


def windows(b: Builder, hp: Hparams) -> tuple[list[bool], dict[bool, Kind]]:
    """Which layers have a window, and what those with and without have in common."""
    ones = b.weights.constant(np.ones(hp.v_dim, np.float32))
    everywhere = rotation(hp, b.weights, neighbours=False)
    local = rotation(hp, b.weights, False, base=hp.f32("rope.freq_base_swa", 10000.0))
    window = hp.u32("attention.sliding_window")
    kinds = {
        True: Kind(hp.head_dim, local, window, ones),
        False: Kind(hp.head_dim, everywhere, 0, ones),
    }
    if hp.key("attention.sliding_window_pattern") in hp.metadata:
        return hp.flags("attention.sliding_window_pattern"), kinds
    return [(layer + 1) % FULL_EVERY != 0 for layer in range(hp.n_layers)], kinds


def coefficients(b: Builder, hp: Hparams, blk: str, x: Rows, what: str, n_out: int) -> Rows:
    """W tanh(router norm(x) / n_embd): how streams are mixed."""
    weight = b.weights.vector(f"{blk}.altup_router_norm.weight", hp.n_embd)
    weight = b.weights.constant(weight * np.float32(1.0 / hp.n_embd))
    h = b.rms_norm(x, weight, hp.eps, "router_in")
    n = hp.u32("altup.num_inputs", 4)
    router = b.weights.matrix(f"{blk}.altup_router.weight", hp.n_embd, n)
    turned = elementwise(b, "tanh", b.linear(h, router, "altup_router"), "modalities")
    mixer = b.weights.matrix(f"{blk}.altup_{what}_coef.weight", n, n_out)
    return b.linear(turned, mixer, f"altup_{what}")


def attention_and_laurel(
    b: Builder,
    hp: Hparams,
    layer: int,
    h: Rows,
    p: Rows,
    kinds: dict[bool, Kind],
    is_local: list[bool],
) -> Rows:
    """(p + norm(attention(h)) + h + norm(low-rank h)) / sqrt(2)"""
    blk = f"blk.{layer}"
    n_shared = max(0, hp.n_layers - N_OWN)
    a = attention(b, hp, layer, h, kinds[is_local[layer]], source(hp, is_local, layer, n_shared))
    y = b.linear(a, b.weights.matrix(f"{blk}.attn_output.weight", a.width, hp.n_embd), "block_out")
    rank = b.weights.n_rows(f"{blk}.laurel_l.weight")
    low = b.linear(h, b.weights.matrix(f"{blk}.laurel_l.weight", hp.n_embd, rank), "laurel_low")
    back = b.linear(low, b.weights.matrix(f"{blk}.laurel_r.weight", rank, hp.n_embd), "laurel")
    total = elementwise(b, "add_scaled", h, "active", y=p)
    add_normed(b, hp, total, y, f"{blk}.post_attention_norm.weight")
    add_normed(b, hp, total, back, f"{blk}.laurel_post_norm.weight")
    in_place(b, "scale", total, scalar=math.sqrt(0.5))
    return total


def feed_forward(b: Builder, hp: Hparams, layer: int, y: Rows) -> None:
    """y += norm(down(gelu(sparse gate) * up))"""
    blk, n_ff = f"blk.{layer}", hp.n_ff[layer]
    h = norm(b, hp, y, f"{blk}.ffn_norm.weight")
    names = [f"{blk}.ffn_{n}.weight" for n in ("gate", "up")]
    gate, up = b.linears(h, names, (n_ff, n_ff), "gate_up")
    factor = sparsity(hp, layer)
    if math.isfinite(factor):
        b.append(GaussianTopK(x=gate, factor=factor))
    f = b.glu("gelu", up, gate)
    out = b.linear(f, b.weights.matrix(f"{blk}.ffn_down.weight", n_ff, hp.n_embd), "block_out")
    add_normed(b, hp, y, out, f"{blk}.post_ffw_norm.weight")


def sparsity(hp: Hparams, layer: int) -> float:
    """Deviations above the mean that a gate has to be; minus infinity: every gate is kept."""
    key = hp.key("activation_sparsity_scale")
    if key not in hp.metadata:
        return SPARSITY if layer < N_SPARSE else -math.inf
    values = hp.metadata.get_array(key)
    if values.dtype.kind != "f" or len(values) != hp.n_blocks:
        hp.metadata.refuse(key, "expected a float for each layer")
    return float(values[layer])


def add_per_layer(
    b: Builder, hp: Hparams, layer: int, p: Rows, n: int, active: int, inputs: list[Rows]
) -> None:
    """What the layer's own embedding makes of the active stream goes to all but the first."""
    blk, of_layer, gate = f"blk.{layer}", inputs[layer], inputs[-1]
    scale = b.weights.vector(f"{blk}.altup_correct_scale.weight", hp.n_embd)
    now = elementwise(b, "times", stream(hp, p, active), "corrected", v=scale)
    b.linear(now, b.weights.matrix(f"{blk}.inp_gate.weight", hp.n_embd, gate.width), gate)
    f = b.glu("gelu", of_layer, gate, "per_layer_glu")
    y = b.linear(f, b.weights.matrix(f"{blk}.proj.weight", f.width, hp.n_embd), "block_out")
    for i in range(1, n):
        add_normed(b, hp, stream(hp, p, i), y, f"{blk}.post_norm.weight")


def mean_of(b: Builder, hp: Hparams, x: Rows, n: int, active: int) -> Rows:
    """The mean of the first stream and the others' projections, of the active one's magnitude."""
    back = b.buffers.rows("unembedded", n * hp.n_embd)
    sources, out = ([stream(hp, rows, i) for i in range(1, n)] for rows in (x, back))
    projections(b, hp, "altup_unembd_proj.weight", sources, out)
    total = elementwise(b, "scale", stream(hp, x, 0), "x_mean", scalar=1.0 / n)
    for rows in out:
        b.append(MatchMagnitude(x=rows, y=stream(hp, x, active)))
        in_place(b, "add_scaled", total, y=rows, scalar=1.0 / n)
    return total
