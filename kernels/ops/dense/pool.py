"""One vector of each text of a step: the mean of its tokens' rows, or the first or last of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, given, offsets, reads, word, writes

MEAN, FIRST, LAST = range(3)


class Pool(Op, kernel="pool"):
    """out = the mean of a sequence's rows, or the first or last of them"""

    x: Rows = reads("float32 [n_tokens, n], with room up to a multiple of 16")
    kind: int = given("MEAN, FIRST or LAST")
    out: Rows = writes("float32 [n_seqs, n]")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_pool()


POOL = offsets(Pool)


@njit
def _pool_rows(x, stride, first, n_rows, n, out):
    """Rows are added in their order, whatever else is in the step."""
    count = simd.splat(np.float32(n_rows))
    for i in range(0, n, 16):
        total = simd.splat(np.float32(0.0))
        for row in range(first, first + n_rows):
            total = total + simd.load(x + row * stride + 4 * i)
        simd.store(out + 4 * i, total / count)


def build_pool() -> Callable[..., None]:
    """The kernel; a chunk is a sequence."""

    def pool(op, step, thread):  # type: ignore[no-untyped-def]
        n_seqs = load_i64(step + STEP.n_seqs)
        seq = claim(thread, n_seqs)
        while seq >= 0:
            starts = load_i64(step + STEP.seq_start) + 4 * seq
            first, end = np.int64(load_i32(starts)), np.int64(load_i32(starts + 4))
            kind = load_i64(op + POOL.kind)
            if kind == FIRST:
                end = first + 1
            elif kind == LAST:
                first = end - 1
            out = load_i64(op + POOL.out) + seq * load_i64(op + POOL.out_stride)
            stride, n = load_i64(op + POOL.x_stride), load_i64(op + POOL.n)
            _pool_rows(load_i64(op + POOL.x), stride, first, end - first, n, out)
            seq = claim(thread, n_seqs)

    return pool
