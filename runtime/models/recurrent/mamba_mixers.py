"""The Mamba layers that several families share, up to their output projection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.recurrent.conv import short_conv
from slotmux.runtime.lowering.recurrent.mamba import (
    SsdShape,
    gate_then_norm,
    selective_scan,
    ssd_scan,
)
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.ranges import MAX_HEADS


def mamba1_mixer(b: Builder, hp: Hparams, blk: str, h: Rows) -> Rows:
    """ssm_in, convolution, ssm_x, ssm_dt, scan and gate; ssm_out is the caller's.

    dt, B and C are RMS-normalised where the file has weights for it (Jamba) or demands it
    without (``ssm.dt_b_c_rms``, Falcon Mamba)."""
    n, n_state = hp.u32("ssm.inner_size"), hp.u32("ssm.state_size")
    n_dt = hp.u32("ssm.time_step_rank")
    xz = b.linear(h, b.weights.matrix(f"{blk}.ssm_in.weight", h.width, 2 * n), "ssm_in")
    conv = f"{blk}.ssm_conv1d"
    # in_proj makes x | z: z takes no part until the scan's output is gated by it.
    x = short_conv(
        b,
        xz.columns(0, n),
        f"{conv}.weight",
        hp.u32("ssm.conv_kernel"),
        bias=f"{conv}.bias",
        silu=True,
    )
    weight = b.weights.matrix(f"{blk}.ssm_x.weight", n, n_dt + 2 * n_state)
    selected = b.linear(x, weight, "ssm_x")
    # What makes the scan selective (Gu & Dao 2023, section 3.2): step sizes, B and C depend on x.
    dt, b_rows, c_rows = (
        _normed(b, hp, blk, name, selected.columns(start, width))
        for name, start, width in (
            ("dt", 0, n_dt),
            ("b", n_dt, n_state),
            ("c", n_dt + n_state, n_state),
        )
    )
    steps = b.linear(dt, b.weights.matrix(f"{blk}.ssm_dt.weight", n_dt, n), "ssm_dt")
    a = negative(b, f"{blk}.ssm_a", n_state, n)
    d, bias = b.weights.vector(f"{blk}.ssm_d", n), b.weights.vector(f"{blk}.ssm_dt.bias", n)
    return selective_scan(b, x, steps, xz.columns(n, n), b_rows, c_rows, a, d, bias)


def _normed(b: Builder, hp: Hparams, blk: str, name: str, x: Rows) -> Rows:
    tensor = f"{blk}.ssm_{name}_norm.weight"
    if any(b.weights.has(f"{blk}.ssm_{n}_norm.weight") for n in ("dt", "b", "c")):
        return b.rms_norm(x, b.weights.vector(tensor, x.width), hp.eps, f"ssm_{name}_norm")
    if hp.flag("ssm.dt_b_c_rms", False):
        return b.rms_norm(x, None, hp.eps, f"ssm_{name}_norm")
    return x


def negative(b: Builder, name: str, *shape: int) -> NDArray[np.float32]:
    """A tensor of -exp(A_log): states that would grow are no state-space model."""
    values = b.weights.vector(name, *shape)
    if not (values <= 0.0).all():
        b.weights.refuse(name, "values above 0, but it holds -exp(A_log)")
    return values


def ssd_shape(hp: Hparams) -> SsdShape:
    """Mamba-2 sizes of the file, checked against each other."""
    n = hp.u32("ssm.inner_size")
    n_head, n_group = (
        hp.u32("ssm.time_step_rank", high=MAX_HEADS),
        hp.u32("ssm.group_count"),
    )
    if n % n_head:
        hp.metadata.refuse(hp.key("ssm.inner_size"), f"{n} is not a multiple of {n_head} heads")
    if n_head % n_group:
        hp.metadata.refuse(hp.key("ssm.group_count"), f"{n_group} does not divide {n_head} heads")
    return SsdShape(n_head, n // n_head, n_group, hp.u32("ssm.state_size"))


def mamba2_mixer(b: Builder, hp: Hparams, blk: str, h: Rows) -> Rows:
    """ssm_in, convolution, scan, gate and norm (only the gate without ssm_norm); ssm_out is
    the caller's."""
    shape = ssd_shape(hp)
    n, n_head = shape.n_inner, shape.n_head
    weight = b.weights.matrix(f"{blk}.ssm_in.weight", h.width, n + shape.n_conv + n_head)
    # One product makes all that a layer needs (Dao & Gu 2024, section 7): z | x | B | C | dt.
    zxbcdt = b.linear(h, weight, "ssm_in")
    conv = f"{blk}.ssm_conv1d"
    xbc = short_conv(
        b,
        zxbcdt.columns(n, shape.n_conv),
        f"{conv}.weight",
        hp.u32("ssm.conv_kernel"),
        bias=f"{conv}.bias",
        silu=True,
    )
    dt = zxbcdt.columns(n + shape.n_conv, n_head)
    a = negative(b, f"{blk}.ssm_a", 1, n_head)
    d, bias = b.weights.vector(f"{blk}.ssm_d", 1, n_head), f"{blk}.ssm_dt.bias"
    y = ssd_scan(b, shape, xbc, dt, a, d, b.weights.vector(bias, n_head))
    norm = f"{blk}.ssm_norm.weight"
    weights = None
    if b.weights.optional(norm):
        # Normed group by group, so that groups can stand on several devices and still be alike.
        weights = b.weights.vector(norm, n // shape.n_group, shape.n_group)
    return gate_then_norm(b, y, zxbcdt.columns(0, n), weights, shape.n_group, hp.eps)
