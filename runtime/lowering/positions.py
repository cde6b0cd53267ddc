"""What a token's position does outside the rotation: learned rows, growing queries."""

from __future__ import annotations

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.attention.temperature import Temper
from slotmux.kernels.ops.dense.add_rows import AddRows
from slotmux.runtime.lowering.builder import Builder


def add_positions(b: Builder, x: Rows, tensor: str, n_positions: int) -> None:
    """x += the row of ``tensor`` at each token's position"""
    table = b.weights.vector(tensor, x.width, n_positions)
    b.append(AddRows(x=x, table=table, ids=b.step_address("positions")))


def temper(b: Builder, q: Rows, scale: float, every: int, offset: int = 0) -> None:
    """q *= 1 + scale log(1 + floor((position + offset) / every))"""
    positions = b.step_address("positions")
    b.append(Temper(x=q, positions=positions, scale=scale, every=every, offset=offset))
