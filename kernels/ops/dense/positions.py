"""Learned positions: each token's rows take the row of a table that stands at its position."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.kernels import simd
from slotmux.kernels.address import load_i32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Address, Op, Rows, Vector, given, offsets, updates, word
from slotmux.kernels.ops.dense.norm import load_row_vector


class AddPositions(Op, kernel="add_positions"):
    """x += table[position]"""

    x: Rows = updates("float32 [n_tokens, n]")
    positions: Address = given("int32 [n_tokens], each a row of the table")
    table: Vector = given("float32 [n_positions, n]")

    @word
    def n(self) -> int:
        """Width; rows of x have room up to a multiple of 16."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_add_positions()


ADD_POSITIONS = offsets(AddPositions)


def build_add_positions() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def add_positions(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens, n = load_i64(step + STEP.n_tokens), load_i64(op + ADD_POSITIONS.n)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + ADD_POSITIONS.x) + token * load_i64(op + ADD_POSITIONS.x_stride)
            pos = load_i32(load_i64(op + ADD_POSITIONS.positions) + 4 * token)
            row = load_i64(op + ADD_POSITIONS.table) + 4 * n * pos
            for i in range(0, n, 16):
                simd.store(x + 4 * i, simd.load(x + 4 * i) + load_row_vector(row, i, n))
            token = claim(thread, n_tokens)

    return add_positions
