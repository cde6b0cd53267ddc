"""The token before: x[t-1], or its difference x[t-1] - x[t]; the last x is kept in the state row.

RWKV mixes each token's input with the previous one's (Peng et al. 2023, section 3.1). A block for
multi-token prediction pairs each token with the trunk's hidden state of the one before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.recurrent.state import drafts_of_run, locate_run

# x: float32 rows [n_tokens, n] of x_stride bytes; out: float32 rows of out_stride bytes, with
# room up to a multiple of 16. State: float32 [n rounded up to 16], the sequence's last x, zeros
# before the start; pending (bytes behind it): x of each draft in such rows.
TOKEN_SHIFT = words("TokenShift", "x x_stride n out out_stride rows row_stride pending")
# The sequence's last x alone, one row a run of the step; operands as above.
LAST_TOKEN = words("LastToken", "n out out_stride rows row_stride pending")
CHANNELS = 256  # of a chunk


def state_floats(n: int) -> int:
    """Size of a sequence's state, and of what is kept of a draft."""
    return -(-n // 16) * 16


@njit(forceinline=True)
def last_value(state, fresh, pending, n_pending, n, c):
    """16 channels, from byte c on, of the sequence's last x."""
    value = simd.splat(np.float32(0.0))
    if n_pending > 0:
        value = simd.load(pending + 4 * ((n_pending - 1) * ((n + 15) // 16 * 16)) + c)
    elif fresh == 0:
        value = simd.load(state + c)
    return value


def build_last_token() -> Callable[..., None]:
    """The kernel of LAST_TOKEN, which leaves the state as it is; a chunk is a run."""

    def last_token(op, step, thread):  # type: ignore[no-untyped-def]
        n_seqs = load_i64(step + STEP.n_seqs)
        run = claim(thread, n_seqs)
        while run >= 0:
            rows, row_stride = load_i64(op + LAST_TOKEN.rows), load_i64(op + LAST_TOKEN.row_stride)
            _, _, state, fresh = locate_run(rows, row_stride, step, run)
            n_pending, _ = drafts_of_run(step, run)
            n, pending = load_i64(op + LAST_TOKEN.n), state + load_i64(op + LAST_TOKEN.pending)
            out = load_i64(op + LAST_TOKEN.out) + run * load_i64(op + LAST_TOKEN.out_stride)
            for c in range(0, 4 * n, 64):
                simd.store(out + c, last_value(state, fresh, pending, n_pending, n, c))
            run = claim(thread, n_seqs)

    return last_token


def build_token_shift(is_difference: bool) -> Callable[..., None]:
    """The kernel; a chunk is one sequence's tokens of a group of channels."""

    @njit(forceinline=True)
    def shift(x, x_stride, out, out_stride, first, end, before):
        """Tokens first to end of 16 channels; returns the last x."""
        for t in range(first, end):
            value = simd.load(x + t * x_stride)
            if is_difference:
                simd.store(out + t * out_stride, before - value)
            else:
                simd.store(out + t * out_stride, before)
            before = value
        return before

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
            run = chunk // n_groups
            first, n_tokens, state, fresh = locate_run(rows, row_stride, step, run)
            n_pending, n_drafts = drafts_of_run(step, run)
            n_kept, pending = n_tokens - n_drafts, state + load_i64(op + TOKEN_SHIFT.pending)
            x_stride = load_i64(op + TOKEN_SHIFT.x_stride)
            out_stride = load_i64(op + TOKEN_SHIFT.out_stride)
            x = load_i64(op + TOKEN_SHIFT.x) + first * x_stride
            out = load_i64(op + TOKEN_SHIFT.out) + first * out_stride
            begin = chunk % n_groups * CHANNELS
            for c in range(4 * begin, 4 * min(n, begin + CHANNELS), 64):
                before = last_value(state, fresh, pending, n_pending, n, c)
                before = shift(x + c, x_stride, out + c, out_stride, 0, n_kept, before)
                simd.store(state + c, before)
                shift(x + c, x_stride, out + c, out_stride, n_kept, n_tokens, before)
                for i in range(n_drafts):
                    at = pending + 4 * (i * ((n + 15) // 16 * 16)) + c
                    simd.store(at, simd.load(x + (n_kept + i) * x_stride + c))
            chunk = claim(thread, n_chunks)

    return token_shift
