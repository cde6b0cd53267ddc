"""Element-by-element operations on rows (see kernels/ops/dense/elementwise.py)."""

from __future__ import annotations

from slotmux.kernels.operands import Rows, Vector
from slotmux.kernels.ops.dense.elementwise import Elementwise
from slotmux.runtime.lowering.builder import Builder


def elementwise(
    b: Builder,
    formula: str,
    x: Rows,
    out: Rows | str,
    *,
    y: Rows | None = None,
    z: Rows | None = None,
    v: Vector | None = None,
    scalar: float = 1.0,
) -> Rows:
    """A formula of FORMULAS over rows x, y, z, a vector v and a scalar, into ``out`` (rows, or the
    name of a buffer)."""
    assert all(rows.width == x.width for rows in (y, z) if rows is not None)
    if isinstance(out, str):
        out = b.buffers.rows(out, x.width, x.n_rows)
    b.append(Elementwise(formula=formula, x=x, y=y, z=z, v=v, scalar=scalar, out=out))
    return out


def in_place(
    b: Builder,
    formula: str,
    x: Rows,
    *,
    y: Rows | None = None,
    z: Rows | None = None,
    v: Vector | None = None,
    scalar: float = 1.0,
) -> None:
    """x = formula(x, y, z, v, scalar)"""
    elementwise(b, formula, x, x, y=y, z=z, v=v, scalar=scalar)


def add_scaled(b: Builder, x: Rows, y: Rows, scale: float) -> None:
    """x += scale * y"""
    in_place(b, "add_scaled", x, y=y, scalar=scale)
