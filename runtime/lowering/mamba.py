"""The scans of Mamba 1 and 2 and the gate with the norm after it (kernels/ops/recurrent)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.recurrent.mamba1 import MAMBA1, build_mamba1, packed_a
from slotmux.kernels.ops.recurrent.mamba1 import pending_floats as mamba1_pending_floats
from slotmux.kernels.ops.recurrent.mamba1 import scratch_bytes as mamba1_scratch_bytes
from slotmux.kernels.ops.recurrent.mamba1 import state_floats as mamba1_state_floats
from slotmux.kernels.ops.recurrent.mamba2 import (
    GATE_THEN_NORM,
    MAMBA2,
    MAMBA2_STEPS,
    build_gate_then_norm,
    build_mamba2,
    build_mamba2_steps,
)
from slotmux.kernels.ops.recurrent.mamba2 import pending_floats as mamba2_pending_floats
from slotmux.kernels.ops.recurrent.mamba2 import scratch_bytes as mamba2_scratch_bytes
from slotmux.kernels.ops.recurrent.mamba2 import state_floats as mamba2_state_floats
from slotmux.runtime.lowering.buffers import Rows, round_up
from slotmux.runtime.lowering.builder import Builder

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SsdShape:
    """Heads of a Mamba-2 layer; groups of heads share B and C."""

    n_head: int
    head_dim: int
    n_group: int
    n_state: int

    @property
    def n_inner(self) -> int:
        """Channels of all heads."""
        return self.n_head * self.head_dim

    @property
    def n_bc(self) -> int:
        """Width of B, and of C."""
        return self.n_group * self.n_state

    @property
    def n_conv(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.n_inner + 2 * self.n_bc


def selective_scan(
    b: Builder,
    x: Rows,
    dt: Rows,
    z: Rows,
    b_rows: Rows,
    c_rows: Rows,
    a: Vector,
    d: Vector,
    dt_bias: Vector,
) -> Rows:
    """Mamba 1: dt before its bias and softplus, a [n, n_state] not above 0; gated by silu(z)."""
    n, n_state = a.shape
    assert x.width == dt.width == z.width == n
    assert b_rows.width == c_rows.width == n_state
    inputs = (x, dt, z, b_rows, c_rows)
    assert b_rows.stride == c_rows.stride
    out = b.buffers.rows("ssm_y", n)
    op = b.append_recurrent(
        "mamba1",
        build_mamba1,
        MAMBA1,
        {
            "x": x.address,
            "x_stride": x.stride,
            "dt": dt.address,
            "dt_stride": dt.stride,
            "z": z.address,
            "z_stride": z.stride,
            "b": b_rows.address,
            "c": c_rows.address,
            "bc_stride": b_rows.stride,
            "a": b.weights.constant(packed_a(a)),
            "d": d,
            "dt_bias": dt_bias,
            "n": n,
            "n_state": n_state,
            "out": 0,
            "out_stride": out.stride,
            "tiles": 0,
        },
        [rows.span for rows in inputs],
        [out.span],
        mamba1_state_floats(n, n_state),
        mamba1_pending_floats(n, n_state),
        mamba1_scratch_bytes(n_state),
    )
    return b.producer(out, op)


def ssd_scan(
    b: Builder, shape: SsdShape, xbc: Rows, dt: Rows, a: Vector, d: Vector, dt_bias: Vector
) -> Rows:
    """Mamba 2 over x | B | C after their convolution; dt before its bias and softplus."""
    n, n_bc = shape.n_inner, shape.n_bc
    assert xbc.width == shape.n_conv
    assert dt.width == shape.n_head
    steps, decay = _step_sizes(b, dt, a, dt_bias)
    out = b.buffers.rows("ssm_y", n)
    b.append_recurrent(
        "mamba2",
        build_mamba2,
        MAMBA2,
        {
            "x": xbc.address,
            "x_stride": xbc.stride,
            "b": xbc.columns(n, n_bc).address,
            "c": xbc.columns(n + n_bc, n_bc).address,
            "bc_stride": xbc.stride,
            "dt": steps.address,
            "decay": decay.address,
            "dt_stride": steps.stride,
            "d": d,
            "n_head": shape.n_head,
            "head_dim": shape.head_dim,
            "n_group": shape.n_group,
            "n_state": shape.n_state,
            "out": out.address,
            "out_stride": out.stride,
        },
        [xbc.span, steps.span, decay.span],
        [out.span],
        mamba2_state_floats(shape.n_head, shape.head_dim, shape.n_state),
        mamba2_pending_floats(shape.n_head, shape.head_dim, shape.n_state),
        mamba2_scratch_bytes(shape.head_dim, shape.n_state),
    )
    return out


def _step_sizes(b: Builder, dt: Rows, a: Vector, dt_bias: Vector) -> tuple[Rows, Rows]:
    """softplus(dt + dt_bias) and exp of that times a, side by side."""
    n_head = dt.width
    # Before the scan, whose chunks are single heads: here a vector's lanes are heads, and an exp of
    # sixteen costs no more than that of one.
    both = b.buffers.rows("ssm_steps", 2 * round_up(n_head, 16))
    steps, decay = both.columns(0, n_head), both.columns(round_up(n_head, 16), n_head)
    b.append_raw(
        "mamba2_steps",
        build_mamba2_steps,
        MAMBA2_STEPS,
        {
            "x": dt.address,
            "x_stride": dt.stride,
            "n_rows": b.count("n_tokens"),
            "n_head": n_head,
            "dt_bias": dt_bias,
            "a": a,
            "dt": steps.address,
            "decay": decay.address,
            "out_stride": both.stride,
        },
        [dt.span],
        [both.span],
    )
    return steps, decay


def gate_then_norm(
    b: Builder, y: Rows, z: Rows, weight: Vector | None, n_group: int, eps: float
) -> Rows:
    """RMS norm of y * silu(z) in ``n_group`` groups of columns; without weight only the gate."""
    assert y.width == z.width
    assert y.width % n_group == 0
    out = b.buffers.rows("ssm_gated", y.width)
    b.append_raw(
        "mamba2_gate",
        build_gate_then_norm,
        GATE_THEN_NORM,
        {
            "y": y.address,
            "y_stride": y.stride,
            "z": z.address,
            "z_stride": z.stride,
            "n_rows": b.count("n_tokens"),
            "n": y.width,
            "n_group": n_group,
            "weight": 0 if weight is None else weight,
            "eps": b.scalar(eps),
            "out": out.address,
            "out_stride": out.stride,
        },
        [y.span, z.span],
        [out.span],
        4 * round_up(y.width, 16),
    )
    return out
