"""Element-by-element operations on rows (see kernels/ops/dense/elementwise.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.dense.elementwise import ELEMENTWISE, SCRATCH_BYTES, build_elementwise
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.ops import Op


def elementwise(
    b: Builder,
    formula: str,
    x: Rows,
    out: str,
    *,
    y: Rows | None = None,
    z: Rows | None = None,
    v: NDArray[np.float32] | None = None,
    scalar: float = 1.0,
) -> Rows:
    """A formula of FORMULAS over rows x, y, z, a vector v and a scalar, into a buffer ``out``."""
    rows = b.buffers.rows(out, x.width)
    op = _append(b, formula, x, rows, y, z, v, scalar)
    op.writes.append(rows.tiles_span)
    return b.producer(rows, op)


def in_place(
    b: Builder,
    formula: str,
    x: Rows,
    *,
    y: Rows | None = None,
    z: Rows | None = None,
    v: NDArray[np.float32] | None = None,
    scalar: float = 1.0,
    n_rows: str = "n_tokens",
) -> None:
    """x = formula(x, y, z, v, scalar) of as many rows as the step's word ``n_rows`` says"""
    op = _append(b, formula, x, x, y, z, v, scalar)
    op.operands["n_rows"] = b.count(n_rows)
    op.operands["out"] = x.address


def add_scaled(b: Builder, x: Rows, y: Rows, scale: float) -> None:
    """x += scale * y"""
    in_place(b, "add_scaled", x, y=y, scalar=scale)


def _append(
    b: Builder,
    formula: str,
    x: Rows,
    out: Rows,
    y: Rows | None,
    z: Rows | None,
    v: NDArray[np.float32] | None,
    scalar: float,
) -> Op:
    inputs = [rows.floats() for rows in (x, y, z) if rows is not None]
    assert all(rows.width == x.width for rows in inputs)
    return b.append(
        f"elementwise.{formula}",
        lambda: build_elementwise(formula),
        ELEMENTWISE,
        {
            "x": x.address,
            "x_stride": x.stride,
            "y": y.address if y else 0,
            "y_stride": y.stride if y else 0,
            "z": z.address if z else 0,
            "z_stride": z.stride if z else 0,
            "v": 0 if v is None else v,
            "scalar": b.scalar(scalar),
            "n": x.width,
            "n_rows": b.count("n_tokens"),
            "out": 0,
            "out_stride": out.stride,
            "tiles": 0,
        },
        [rows.span for rows in inputs],
        [out.span],
        SCRATCH_BYTES,
    )
