"""Where the recurrent state of a run's sequence is."""

from __future__ import annotations

from numba import njit

from kernels.address import load_i32, load_i64, load_u8
from kernels.operands import STEP


@njit
def locate_run(rows, row_stride, step, run):
    """Run ``run`` of the step: first token, number of tokens, its state's address, is fresh."""
    seq_start = load_i64(step + STEP.seq_start) + 4 * run
    first = load_i32(seq_start)
    slot = load_i32(load_i64(step + STEP.seq_slot) + 4 * run)
    row = load_i32(load_i64(step + STEP.state_row) + 4 * slot)
    fresh = load_u8(load_i64(step + STEP.state_fresh) + slot)
    return first, load_i32(seq_start + 4) - first, rows + row * row_stride, fresh
