"""The scans of Mamba 1 and 2 and the gate with the norm after it (kernels/ops/recurrent)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.recurrent.mamba1 import Mamba1, packed_a
from slotmux.kernels.ops.recurrent.mamba2 import GateThenNorm, Mamba2, Mamba2Steps
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
    out = b.buffers.rows("ssm_y", n)
    b.append(
        Mamba1(
            x=x,
            dt=dt,
            z=z,
            b=b_rows,
            c=c_rows,
            a=b.weights.constant(packed_a(a)),
            d=d,
            dt_bias=dt_bias,
            out=out,
        )
    )
    return out


def ssd_scan(
    b: Builder, shape: SsdShape, xbc: Rows, dt: Rows, a: Vector, d: Vector, dt_bias: Vector
) -> Rows:
    """Mamba 2 over x | B | C after their convolution; dt before its bias and softplus."""
    n, n_bc = shape.n_inner, shape.n_bc
    assert xbc.width == shape.n_conv
    x, b_rows, c_rows = xbc.columns(0, n), xbc.columns(n, n_bc), xbc.columns(n + n_bc, n_bc)
    return scan_of_parts(b, shape.n_state, x, b_rows, c_rows, dt, a, d, dt_bias)


def scan_of_parts(
    b: Builder, n_state: int, x: Rows, b_rows: Rows, c_rows: Rows, dt: Rows, a: Vector, d: Vector,
    dt_bias: Vector,
) -> Rows:  # fmt: skip
    """The same of x, B and C by themselves; rows of B are as far apart as those of C."""
    assert dt.width == a.size
    steps, decay = _step_sizes(b, dt, a, dt_bias)
    out = b.buffers.rows("ssm_y", x.width)
    b.append(Mamba2(x=x, b=b_rows, c=c_rows, dt=steps, decay=decay, d=d, n_state=n_state, out=out))
    return out


def _step_sizes(b: Builder, dt: Rows, a: Vector, dt_bias: Vector) -> tuple[Rows, Rows]:
    """softplus(dt + dt_bias) and exp of that times a, side by side."""
    n_head = dt.width
    # Before the scan, whose chunks are single heads: here a vector's lanes are heads, and an exp of
    # sixteen costs no more than that of one.
    both = b.buffers.rows("ssm_steps", 2 * round_up(n_head, 16))
    steps, decay = both.columns(0, n_head), both.columns(round_up(n_head, 16), n_head)
    b.append(Mamba2Steps(x=dt, dt_bias=dt_bias, a=a, dt=steps, decay=decay))
    return steps, decay


def gate_then_norm(
    b: Builder, y: Rows, z: Rows, weight: Vector | None, n_group: int, eps: float
) -> Rows:
    """RMS norm of y * silu(z) in ``n_group`` groups of columns; without weight only the gate."""
    assert y.width == z.width
    assert y.width % n_group == 0
    out = b.buffers.rows("ssm_gated", y.width)
    b.append(GateThenNorm(y=y, z=z, n_group=n_group, weight=weight, eps=eps, out=out))
    return out
