"""Where the recurrent state of a run's sequence is, and what drafts do to it.

The last tokens of a run may be drafts. They are computed from a copy of the state; the row keeps
the state before them, and their inputs ("pending"). How many of them the sequence has accepted is
known when its next run begins, which applies just those first. So a rejected token has never been
there, nothing is copied back, and the bits are those of a sequence that never drafted.
"""

from __future__ import annotations

from numba import njit

from slotmux.kernels.address import load_i32, load_i64, load_u8
from slotmux.kernels.operands import STEP


@njit
def locate_run(rows, row_stride, step, run):
    """Run ``run`` of the step: first token, number of tokens, its state's address, is fresh."""
    seq_start = load_i64(step + STEP.seq_start) + 4 * run
    first = load_i32(seq_start)
    slot = load_i32(load_i64(step + STEP.seq_slot) + 4 * run)
    row = load_i32(load_i64(step + STEP.state_row) + 4 * slot)
    fresh = load_u8(load_i64(step + STEP.state_fresh) + slot)
    return first, load_i32(seq_start + 4) - first, rows + row * row_stride, fresh


@njit
def drafts_of_run(step, run):
    """Run ``run``: how many inputs of accepted drafts are pending in its row, and how many of its
    last tokens are drafts."""
    slot = load_i32(load_i64(step + STEP.seq_slot) + 4 * run)
    n_pending = load_i32(load_i64(step + STEP.state_pending) + 4 * slot)
    return n_pending, load_i32(load_i64(step + STEP.seq_drafts) + 4 * run)
