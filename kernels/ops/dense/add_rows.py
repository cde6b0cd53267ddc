"""x += table[id], for positions and token types that are learned vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Address,
    Op,
    Rows,
    Vector,
    given,
    offsets,
    updates,
    word,
)


class AddRows(Op, kernel="add_rows"):
    """x += table[id]"""

    x: Rows = updates("float32 [n_tokens, n], with room up to a multiple of 16")
    table: Vector = given("float32 [ids, n]")
    ids: Address = given("int32 [n_tokens]")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_add_rows()


ADD_ROWS = offsets(AddRows)


@njit
def _add_row(x, row, n):
    zero = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        added = simd.load(row + 4 * i)
        if i + 16 > n:
            added = simd.first_lanes(added, n - i, zero)
        simd.store(x + 4 * i, simd.load(x + 4 * i) + added)


def build_add_rows() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def add_rows(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n = load_i64(op + ADD_ROWS.n)
            row = load_i32(load_i64(op + ADD_ROWS.ids) + 4 * token)
            x = load_i64(op + ADD_ROWS.x) + token * load_i64(op + ADD_ROWS.x_stride)
            _add_row(x, load_i64(op + ADD_ROWS.table) + 4 * n * row, n)
            token = claim(thread, n_tokens)

    return add_rows
