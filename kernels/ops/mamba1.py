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

from kernels import simd
from kernels.activations import BLOCK_BYTES, quantize_block
from kernels.address import load_i64
from kernels.claims import T_SCRATCH, claim
from kernels.operands import STEP, words
from kernels.ops.glu import silu
from kernels.ops.ssm_scan import DT, SEGMENT, TOKEN_BYTES, U, Y, make_scan
from kernels.ops.state import locate_run

# x, dt, z: float32 rows [n_tokens, n] of their strides in bytes; b, c: float32 rows [n_tokens,
# n_state] of bc_stride; a: float32 as packed_a makes it; d, dt_bias: float32 [n], padded;
# out: float32 rows [n_tokens, n] of out_stride bytes (0: none), written up to n rounded up to 16;
# tiles: 8-bit activations of n inputs (0: none).
# State: float32 [n / 16 rounded up, n_state, 16].
MAMBA1 = words(
    "Mamba1",
    "x x_stride dt dt_stride z z_stride b c bc_stride a d dt_bias n n_state out out_stride tiles "
    "rows row_stride",
)


def state_floats(n: int, n_state: int) -> int:
    """Size of a sequence's state."""
    return -(-n // 16) * 16 * n_state


def packed_a(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """A [n, n_state] as the scan reads it: times log2(e), [n / 16 rounded up, n_state, 16]."""
    n, n_state = a.shape
    padded = np.zeros((-(-n // 16) * 16, n_state), np.float32)
    padded[:n] = a.astype(np.float64) * np.log2(np.e)
    return np.ascontiguousarray(padded.reshape(-1, 16, n_state).transpose(0, 2, 1))


def build_mamba1() -> Callable[..., None]:
    """The kernel; a chunk is one sequence's tokens of 32 channels."""
    scan = make_scan(decay_per_state=True)

    @njit
    def prepare(op, scratch, first, n_tokens, c):
        """DT, U and Y of 16 channels before the scan."""
        bias, d = load_i64(op + MAMBA1.dt_bias) + 4 * c, load_i64(op + MAMBA1.d) + 4 * c
        for t in range(n_tokens):
            row = first + t
            dt = load_i64(op + MAMBA1.dt) + row * load_i64(op + MAMBA1.dt_stride) + 4 * c
            x = simd.load(load_i64(op + MAMBA1.x) + row * load_i64(op + MAMBA1.x_stride) + 4 * c)
            step_size = simd.softplus(simd.load(dt) + simd.load(bias))
            token = scratch + TOKEN_BYTES * t
            simd.store(token + DT, step_size)
            simd.store(token + U, step_size * x)
            simd.store(token + Y, simd.load(d) * x)

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
                high = gated(op, token + TOKEN_BYTES * SEGMENT, row, c + 16)
            if out != 0:
                at = out + row * load_i64(op + MAMBA1.out_stride) + 4 * c
                simd.store(at, low)
                if c + 16 < n:
                    simd.store(at + 64, high)
            if tiles != 0:
                tile = tiles + row // 8 * (n // 32) * BLOCK_BYTES
                quantize_block(low, high, tile + c // 32 * BLOCK_BYTES, row % 8)

    @njit
    def scan_channels(op, scratch, state, fresh, first, n_tokens, c):
        """One segment of tokens through 16 channels."""
        n_state, bc_stride = load_i64(op + MAMBA1.n_state), load_i64(op + MAMBA1.bc_stride)
        prepare(op, scratch, first, n_tokens, c)
        offset = first * bc_stride
        scan(
            state + 4 * c * n_state, fresh, load_i64(op + MAMBA1.a) + 4 * c * n_state, 0, 0,
            scratch, load_i64(op + MAMBA1.b) + offset, load_i64(op + MAMBA1.c) + offset,
            bc_stride, n_tokens, n_state,
        )  # fmt: skip

    def mamba1(op, step, thread):  # type: ignore[no-untyped-def]
        n_groups = (load_i64(op + MAMBA1.n) + 31) // 32
        # Columns first: threads then write different cache lines of the 8-bit tiles, in which all
        # rows of a tile share lines.
        n_seqs = load_i64(step + STEP.n_seqs)
        n_chunks = n_seqs * n_groups
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            scratch, c = load_i64(thread + 8 * T_SCRATCH), chunk // n_seqs * 32
            first, n_tokens, state, fresh = locate_run(
                load_i64(op + MAMBA1.rows), load_i64(op + MAMBA1.row_stride), step,
                chunk % n_seqs,
            )  # fmt: skip
            for t in range(0, n_tokens, SEGMENT):
                length = min(SEGMENT, n_tokens - t)
                scan_channels(op, scratch, state, fresh, first + t, length, c)
                if c + 16 < load_i64(op + MAMBA1.n):
                    second = scratch + TOKEN_BYTES * SEGMENT
                    scan_channels(op, second, state, fresh, first + t, length, c + 16)
                finish(op, scratch, first + t, length, c)
                fresh = 0
            chunk = claim(thread, n_chunks)

    return mamba1
