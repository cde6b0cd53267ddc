"""Difference to the token before: dx[t] = x[t-1] - x[t], the last token kept in the state row.

RWKV mixes each token's input with the previous one's (Peng et al. 2023, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels import simd
from kernels.address import load_i64
from kernels.claims import claim
from kernels.operands import STEP, words
from kernels.ops.state import locate_run

# x: float32 rows [n_tokens, n] of x_stride bytes; out: float32 rows of out_stride bytes, with
# room up to a multiple of 16. State: float32 [n], the sequence's last x; zeros before the start.
TOKEN_SHIFT = words("TokenShift", "x x_stride n out out_stride rows row_stride")
CHANNELS = 256  # of a chunk


def build_token_shift() -> Callable[..., None]:
    """The kernel; a chunk is one sequence's tokens of a group of channels."""

    def token_shift(op, step, thread):  # type: ignore[no-untyped-def]
        n = load_i64(op + TOKEN_SHIFT.n)
        n_groups = (n + CHANNELS - 1) // CHANNELS
        n_chunks = load_i64(step + STEP.n_seqs) * n_groups
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            rows, row_stride = (
                load_i64(op + TOKEN_SHIFT.rows),
                load_i64(op + TOKEN_SHIFT.row_stride),
            )
            first, n_tokens, state, fresh = locate_run(rows, row_stride, step, chunk // n_groups)
            x_stride = load_i64(op + TOKEN_SHIFT.x_stride)
            out_stride = load_i64(op + TOKEN_SHIFT.out_stride)
            x = load_i64(op + TOKEN_SHIFT.x) + first * x_stride
            out = load_i64(op + TOKEN_SHIFT.out) + first * out_stride
            begin = chunk % n_groups * CHANNELS
            for c in range(4 * begin, 4 * min(n, begin + CHANNELS), 64):
                before = simd.splat(np.float32(0.0))
                if fresh == 0:
                    before = simd.load(state + c)
                for t in range(n_tokens):
                    value = simd.load(x + t * x_stride + c)
                    simd.store(out + t * out_stride + c, before - value)
                    before = value
                simd.store(state + c, before)
            chunk = claim(thread, n_chunks)

    return token_shift
