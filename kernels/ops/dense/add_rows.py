"""x += table[id], for positions and token types that are learned vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import STEP, words

# x: float32 rows of stride bytes, one a token of the step; n: width, rows have room up to a
# multiple of 16; table: float32 [ids][n] and 16 more; ids: int32, one a token.
ADD_ROWS = words("AddRows", "x stride n table ids")


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
            x = load_i64(op + ADD_ROWS.x) + token * load_i64(op + ADD_ROWS.stride)
            _add_row(x, load_i64(op + ADD_ROWS.table) + 4 * n * row, n)
            token = claim(thread, n_tokens)

    return add_rows
