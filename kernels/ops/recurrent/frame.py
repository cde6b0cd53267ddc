"""What a recurrent op does to a run, in which order, and who computes which part of it.

The last tokens of a run may be drafts. They are computed from a copy of the state; the row keeps
the state before them, and their inputs ("pending"). How many of them the sequence has accepted is
known when its next run begins, which applies just those first. So a rejected token has never been
there, nothing is copied back, and the bits are those of a sequence that never drafted.

A state falls into parts that do not touch each other (heads, groups of channels). An op gives, as
functions of its module:

    n_parts(op)                            how many
    state_of(op, part)                     where a part begins within the state, its size; in bytes
    apply(op, scratch, state, pending, n_pending, part)            accepted drafts, no outputs
    advance(op, scratch, state, fresh, first, n_tokens, part)      tokens, with their outputs
    keep(op, pending, first, n_drafts, part)                       what the drafts' inputs are

``state`` is the address of the part's state, or of its copy; ``fresh``: it means nothing yet, and
was zeros; ``pending`` is the address behind the whole state; ``first`` a token of the step.
``in_order`` makes of these what is done to a part. An op that has a better way (one pass over all,
a window that need not be copied) gives its own ``visit(op, scratch, run, first_part, end_part)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i32, load_i64, load_u8
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.operands import STEP


class Run(NamedTuple):
    """A sequence's tokens of the step: which run, its first token; how many are certain, how many
    after those are drafts, and how many drafts of the run before were accepted; addresses of its
    state and of what is kept of drafts; whether (not 0) its state means nothing yet, and then it
    has no drafts and a certain token."""

    number: int
    first: int
    n_kept: int
    n_drafts: int
    n_pending: int
    state: int
    pending: int
    fresh: int


@njit
def locate_run(rows, row_stride, pending, step, run):
    """Run ``run`` of the step, by the words that every recurrent op has."""
    seq_start = load_i64(step + STEP.seq_start) + 4 * run
    first = load_i32(seq_start)
    slot = load_i32(load_i64(step + STEP.seq_slot) + 4 * run)
    state = rows + load_i32(load_i64(step + STEP.state_row) + 4 * slot) * row_stride
    n_drafts = load_i32(load_i64(step + STEP.seq_drafts) + 4 * run)
    n_pending = load_i32(load_i64(step + STEP.state_pending) + 4 * slot)
    fresh = load_u8(load_i64(step + STEP.state_fresh) + slot)
    n_kept = load_i32(seq_start + 4) - first - n_drafts
    return Run(run, first, n_kept, n_drafts, n_pending, state, state + pending, fresh)


@njit(forceinline=True)
def copy_vectors(x, n, to):
    """Copy n floats, in whole vectors."""
    for i in range(0, 4 * n, 64):
        simd.store(to + i, simd.load(x + i))


def copy_bytes(part_floats: int) -> int:
    """What ``in_order`` needs of a thread's scratch, before what an op's own functions need."""
    return 4 * part_floats


def in_order(state_of: Any, apply: Any, advance: Any, keep: Any) -> Any:
    """``visit``: accepted drafts, tokens, then drafts from a copy of the state, for each part."""

    @njit
    def visit(op, scratch, run, first_part, end_part):
        for part in range(first_part, end_part):
            at, n_bytes = state_of(op, part)
            state, copy, own = run.state + at, scratch, scratch + n_bytes
            if run.n_pending > 0:
                apply(op, own, state, run.pending, run.n_pending, part)
            advance(op, own, state, run.fresh, run.first, run.n_kept, part)
            if run.n_drafts > 0:
                draft = run.first + run.n_kept
                copy_vectors(state, n_bytes // 4, copy)
                advance(op, own, copy, 0, draft, run.n_drafts, part)
                keep(op, run.pending, draft, run.n_drafts, part)

    return visit


@njit
def one_part(op, n_runs, n_threads):
    """Parts of a chunk where there are always enough chunks."""
    return np.int64(1)


def build_recurrent(
    layout: Any, n_parts: Any, visit: Any, per_chunk: Any = one_part, *, in_turn: bool = False
) -> Callable[..., None]:
    """The kernel of a recurrent op, whose layout has the words rows, row_stride and pending; a
    chunk is ``per_chunk(op, n_runs, n_threads)`` parts of one sequence's state.

    ``in_turn``: one sequence after the other, so that memory sees large states as one stream
    each. Else one part of all sequences after the other: threads then write different cache lines
    of 8-bit tiles, in which all rows of a tile share lines."""

    def recurrent(op, step, thread):  # type: ignore[no-untyped-def]
        n_runs, n_all = load_i64(step + STEP.n_seqs), n_parts(op)
        n_of_chunk = per_chunk(op, n_runs, load_i64(thread + 8 * T_N_THREADS))
        n_of_run = (n_all + n_of_chunk - 1) // n_of_chunk
        n_chunks = n_runs * n_of_run
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            number, part = chunk % n_runs, chunk // n_runs
            if in_turn:
                number, part = chunk // n_of_run, chunk % n_of_run
            begin = part * n_of_chunk
            run = locate_run(
                load_i64(op + layout.rows), load_i64(op + layout.row_stride),
                load_i64(op + layout.pending), step, number,
            )  # fmt: skip
            scratch = load_i64(thread + 8 * T_SCRATCH)
            visit(op, scratch, run, begin, min(n_all, begin + n_of_chunk))
            chunk = claim(thread, n_chunks)

    return recurrent
