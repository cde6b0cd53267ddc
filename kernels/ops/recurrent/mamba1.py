"""Selective scan of Mamba (Gu & Dao 2023, algorithm 2), with what stands around it.

dt     = softplus(dt_in[t, c] + dt_bias[c])
S[c,n] = exp(dt * A[c, n]) * S[c, n] + dt * x[t, c] * B[t, n]
y[t,c] = (sum over n of S[c, n] * C[t, n] + D[c] * x[t, c]) * silu(z[t, c])
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.ops.recurrent.ssm_scan import DT, SEGMENT, TOKEN_BYTES, U, Y, make_scan
from slotmux.kernels.ops.recurrent.state import drafts_of_run, locate_run
from slotmux.kernels.quantize import quantize_block

# x, dt, z: float32 rows [n_tokens, n] of their strides in bytes; b, c: float32 rows [n_tokens,
# n_state] of bc_stride; a: float32 as packed_a makes it; d, dt_bias: float32 [n], padded;
# out: float32 rows [n_tokens, n] of out_stride bytes (0: none), written up to n rounded up to 16;
# tiles: 8-bit activations of n inputs (0: none).
# State: float32 [n / 16 rounded up, n_state, 16]; pending (bytes behind it): of each draft float32
# [n / 16 rounded up, 32 + n_state rounded up to 16]: x, dt and B.
MAMBA1 = words(
    "Mamba1",
    "x x_stride dt dt_stride z z_stride b c bc_stride a d dt_bias n n_state out out_stride tiles "
    "rows row_stride pending",
)
GROUPS = 16
LOG2_E = 1.4426950408889634
# Scratch: the scan's tokens of two groups of 16 channels, then a copy of a group's state.
SECOND, STATE_COPY = TOKEN_BYTES * SEGMENT, 2 * TOKEN_BYTES * SEGMENT


def state_floats(n: int, n_state: int) -> int:
    """Size of a sequence's state."""
    return -(-n // 16) * 16 * n_state


def scratch_bytes(n_state: int) -> int:
    """What a thread needs: two segments' tokens, and a copy of a group's state."""
    return STATE_COPY + 64 * n_state


def pending_floats(n: int, n_state: int) -> int:
    """What is kept of a draft: each group of channels has its own B."""
    return -(-n // 16) * (32 + -(-n_state // 16) * 16)


def packed_a(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """A [n, n_state] as the scan reads it: times log2(e), [n / 16 rounded up, n_state, 16]."""
    n, n_state = a.shape
    padded = np.zeros((-(-n // 16) * 16, n_state), np.float32)
    padded[:n] = a.astype(np.float64) * LOG2_E
    return np.ascontiguousarray(padded.reshape(-1, 16, n_state).transpose(0, 2, 1))


def build_mamba1() -> Callable[..., None]:
    """The kernel; a chunk is one sequence's tokens of 32 channels, or of GROUPS times as many."""
    scan = make_scan(decay_per_state=True)

    @njit
    def prepare(op, scratch, dt, dt_stride, x, x_stride, n_tokens, c):
        """DT, U and Y of 16 channels before the scan."""
        bias, d = load_i64(op + MAMBA1.dt_bias) + 4 * c, load_i64(op + MAMBA1.d) + 4 * c
        for t in range(n_tokens):
            step_size = simd.softplus(simd.load(dt + t * dt_stride) + simd.load(bias))
            token, x_t = scratch + TOKEN_BYTES * t, simd.load(x + t * x_stride)
            simd.store(token + DT, step_size)
            simd.store(token + U, step_size * x_t)
            simd.store(token + Y, simd.load(d) * x_t)

    @njit(forceinline=True)
    def gated(op, token, row, c):
        z = load_i64(op + MAMBA1.z) + row * load_i64(op + MAMBA1.z_stride)
        return simd.load(token + Y) * silu(simd.load(z + 4 * c))

    @njit
    def finish(op, scratch, first, n_tokens, c):
        """Gate and write 32 channels (16 at the end of a width that is no multiple of 32)."""
        n, out, tiles = (load_i64(op + MAMBA1.n), load_i64(op + MAMBA1.out),
                         load_i64(op + MAMBA1.tiles))  # fmt: skip
        for t in range(n_tokens):
            row, token = first + t, scratch + TOKEN_BYTES * t
            low = gated(op, token, row, c)
            high = low
            if c + 16 < n:
                high = gated(op, token + SECOND, row, c + 16)
            if out != 0:
                at = out + row * load_i64(op + MAMBA1.out_stride) + 4 * c
                simd.store(at, low)
                if c + 16 < n:
                    simd.store(at + 64, high)
            if tiles != 0:
                quantize_block(low, high, blocks_at(tiles, n, row, c), row % TILE_ROWS)

    @njit
    def scan_channels(op, scratch, state, fresh, first, n_tokens, c):
        """One segment of tokens through 16 channels, whose state is at ``state``."""
        n_state, bc_stride = load_i64(op + MAMBA1.n_state), load_i64(op + MAMBA1.bc_stride)
        dt_stride, x_stride = load_i64(op + MAMBA1.dt_stride), load_i64(op + MAMBA1.x_stride)
        dt = load_i64(op + MAMBA1.dt) + first * dt_stride + 4 * c
        x = load_i64(op + MAMBA1.x) + first * x_stride + 4 * c
        prepare(op, scratch, dt, dt_stride, x, x_stride, n_tokens, c)
        offset = first * bc_stride
        scan(
            state, fresh, load_i64(op + MAMBA1.a) + 4 * c * n_state, 0, 0,
            scratch, load_i64(op + MAMBA1.b) + offset, load_i64(op + MAMBA1.c) + offset,
            bc_stride, n_tokens, n_state,
        )  # fmt: skip

    @njit(forceinline=True)
    def pending_of(op, pending, c):
        """What is kept of drafts for 16 channels: of the first, and bytes to the next."""
        n_bytes = 128 + (load_i64(op + MAMBA1.n_state) + 15) // 16 * 64
        groups = (load_i64(op + MAMBA1.n) + 15) // 16
        return pending + c // 16 * n_bytes, groups * n_bytes

    @njit
    def apply_pending(op, scratch, state, pending, n_pending, c):
        """Accepted drafts of the run before, to 16 channels."""
        n_state = load_i64(op + MAMBA1.n_state)
        x, stride = pending_of(op, pending, c)
        prepare(op, scratch, x + 64, stride, x, stride, n_pending, c)
        b = x + 128
        scan(
            state, 0, load_i64(op + MAMBA1.a) + 4 * c * n_state, 0, 0, scratch, b, b, stride,
            n_pending, n_state,
        )  # fmt: skip

    @njit
    def keep_drafts(op, pending, first, n_drafts, c):
        """Keep what drafts do to 16 channels."""
        to, stride = pending_of(op, pending, c)
        for t in range(first, first + n_drafts):
            x = load_i64(op + MAMBA1.x) + t * load_i64(op + MAMBA1.x_stride) + 4 * c
            dt = load_i64(op + MAMBA1.dt) + t * load_i64(op + MAMBA1.dt_stride) + 4 * c
            b = load_i64(op + MAMBA1.b) + t * load_i64(op + MAMBA1.bc_stride)
            simd.store(to, simd.load(x))
            simd.store(to + 64, simd.load(dt))
            for i in range(0, 4 * load_i64(op + MAMBA1.n_state), 64):
                simd.store(to + 128 + i, simd.load(b + i))
            to += stride

    @njit
    def scan_drafts(op, scratch, copy, state, pending, first, n_drafts, c):
        """Drafts through 16 channels, from a copy of their state."""
        for i in range(0, 64 * load_i64(op + MAMBA1.n_state), 64):
            simd.store(copy + i, simd.load(state + i))
        scan_channels(op, scratch, copy, 0, first, n_drafts, c)
        keep_drafts(op, pending, first, n_drafts, c)

    @njit
    def scan_run(op, step, scratch, run, c):
        """A run through 32 channels: accepted drafts of the one before, its tokens, its drafts."""
        first, n_tokens, state, fresh = locate_run(
            load_i64(op + MAMBA1.rows), load_i64(op + MAMBA1.row_stride), step, run
        )
        n_pending, n_drafts = drafts_of_run(step, run)
        pending, n_kept = state + load_i64(op + MAMBA1.pending), n_tokens - n_drafts
        group_bytes = 64 * load_i64(op + MAMBA1.n_state)
        state += c // 16 * group_bytes
        end = min(c + 32, (load_i64(op + MAMBA1.n) + 15) // 16 * 16)
        if n_pending > 0:
            for i in range(c, end, 16):
                apply_pending(op, scratch, state + (i - c) // 16 * group_bytes, pending,
                              n_pending, i)  # fmt: skip
        for t in range(0, n_kept, SEGMENT):
            length = min(SEGMENT, n_kept - t)
            for i in range(c, end, 16):
                group = (i - c) // 16
                scan_channels(op, scratch + group * SECOND, state + group * group_bytes, fresh,
                              first + t, length, i)  # fmt: skip
            finish(op, scratch, first + t, length, c)
            fresh = 0
        if n_drafts > 0:
            for i in range(c, end, 16):
                group = (i - c) // 16
                scan_drafts(op, scratch + group * SECOND, scratch + STATE_COPY,
                            state + group * group_bytes, pending, first + n_kept, n_drafts,
                            i)  # fmt: skip
            finish(op, scratch, first + n_kept, n_drafts, c)

    def mamba1(op, step, thread):  # type: ignore[no-untyped-def]
        n_groups = (load_i64(op + MAMBA1.n) + 31) // 32
        # Columns first: threads then write different cache lines of the 8-bit tiles, in which all
        # rows of a tile share lines.
        n_seqs = load_i64(step + STEP.n_seqs)
        # Of many sequences more channels at a time: their states come from memory in longer runs.
        per_chunk = np.int64(1)
        if n_seqs * n_groups >= 16 * load_i64(thread + 8 * T_N_THREADS):
            per_chunk = GROUPS
        n_chunks = n_seqs * ((n_groups + per_chunk - 1) // per_chunk)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            scratch, first = load_i64(thread + 8 * T_SCRATCH), chunk // n_seqs * per_chunk
            for group in range(first, min(n_groups, first + per_chunk)):
                scan_run(op, step, scratch, chunk % n_seqs, 32 * group)
            chunk = claim(thread, n_chunks)

    return mamba1
