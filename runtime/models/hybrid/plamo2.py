"""plamo2 (PLaMo 2): Mamba layers with a decay a head, every few layers attention; norms before and
behind every block.

B, C and dt have RMS norms, and so has each head of q and k, by a weight of its own.
"""

from __future__ import annotations

import numpy as np

from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows, round_up
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.head_norm import norm_heads
from slotmux.runtime.lowering.recurrent.conv import short_conv
from slotmux.runtime.lowering.recurrent.mamba import SsdShape, gate_then_norm, scan_of_parts
from slotmux.runtime.models.blocks import embedding, fused_gated_ffn, norm, self_attention
from slotmux.runtime.models.dense.normed_blocks import add_normed
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.ranges import MAX_HEADS
from slotmux.runtime.models.recurrent.mamba_mixers import negative


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    rope = rotation(hp, b.weights, neighbours=False)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        # The file says which layers have attention by giving the others no K and V heads.
        y = attention(b, hp, layer, h, rope) if hp.n_head_kv[layer] else mamba(b, hp, blk, h)
        add_normed(b, hp, x, y, f"{blk}.post_attention_norm")
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        f = fused_gated_ffn(b, h, blk, hp.n_ff[layer])
        down = b.weights.matrix(f"{blk}.ffn_down.weight", f.width, hp.n_embd)
        add_normed(b, hp, x, b.linear(f, down, "block_out"), f"{blk}.post_ffw_norm")
    return x


def attention(b: Builder, hp: Hparams, layer: int, h: Rows, rope: Rotation) -> Rows:
    """Softmax attention whose heads are normed before they rotate."""
    blk = f"blk.{layer}"

    def prepare(q: Rows, k: Rows) -> None:
        for rows, name in ((q, "q"), (k, "k")):
            tensor = f"{blk}.attn_{name}_norm.weight"
            norm_heads(b, rows, tensor, hp.head_dim, hp.eps, "rms")

    a = self_attention(b, hp, layer, h, rope, prepare=prepare)
    out = b.weights.matrix(f"{blk}.attn_output.weight", a.width, hp.n_embd)
    return b.linear(a, out, "block_out")


def mamba(b: Builder, hp: Hparams, blk: str, h: Rows) -> Rows:
    """ssm_in, convolution, ssm_x, ssm_dt, the scan of Mamba 2, gate and ssm_out."""
    shape = mamba_shape(hp)
    n, n_head, n_state = shape.n_inner, shape.n_head, shape.n_state
    order_by_part(b, f"{blk}.ssm_in.weight", shape)
    zx = b.linear(h, b.weights.matrix(f"{blk}.ssm_in.weight", h.width, 2 * n), "ssm_in")
    n_taps = hp.u32("ssm.conv_kernel")
    x = short_conv(b, zx.columns(n, n), f"{blk}.ssm_conv1d.weight", n_taps, silu=True)
    # No key has it: the published code says so.
    n_dt = max(64, hp.n_embd // 16)
    weight = b.weights.matrix(f"{blk}.ssm_x.weight", n, 2 * n_state + n_dt)
    selected = b.linear(x, weight, "ssm_x")
    # Each begins a vector of its own: norms write whole ones.
    width = round_up(n_state, 16)
    normed = b.buffers.rows("ssm_bcdt", 2 * width + round_up(n_dt, 16))
    parts = (
        ("b", 0, 0, n_state),
        ("c", n_state, width, n_state),
        ("dt", 2 * n_state, 2 * width, n_dt),
    )
    for name, start, to, size in parts:
        gain = b.weights.vector(f"{blk}.ssm_{name}_norm", size)
        b.rms_norm_to(selected.columns(start, size), gain, hp.eps, normed.columns(to, size))
    b_rows, c_rows, dt = (normed.columns(to, size) for _, _, to, size in parts)
    steps = b.linear(dt, b.weights.matrix(f"{blk}.ssm_dt.weight", n_dt, n_head), "ssm_dt")
    a, bias = negative(b, f"{blk}.ssm_a", n_head), b.weights.vector(f"{blk}.ssm_dt.bias", n_head)
    d = b.weights.vector(f"{blk}.ssm_d", n_head)
    y = scan_of_parts(b, n_state, x, b_rows, c_rows, steps, a, d, bias)
    y = gate_then_norm(b, y, zx.columns(0, n), None, 1, hp.eps)
    return b.linear(y, b.weights.matrix(f"{blk}.ssm_out.weight", n, hp.n_embd), "block_out")


def mamba_shape(hp: Hparams) -> SsdShape:
    """Sizes of the file, checked against each other; all heads share B and C."""
    n, n_head = hp.u32("ssm.inner_size"), hp.u32("ssm.time_step_rank", high=MAX_HEADS)
    if n % n_head:
        hp.metadata.refuse(hp.key("ssm.inner_size"), f"{n} is not a multiple of {n_head} heads")
    return SsdShape(n_head, n // n_head, 1, hp.u32("ssm.state_size"))


def order_by_part(b: Builder, tensor: str, shape: SsdShape) -> None:
    """Have z of all heads stand before x of all heads: the file has them head by head."""
    d = shape.head_dim
    rows = np.arange(2 * shape.n_inner).reshape(shape.n_head, 2, d).transpose(1, 0, 2)
    b.weights.reorder(tensor, [int(row) for row in rows.reshape(-1)])
