"""From one drafted token to the next, without leaving the thread team.

A chain of passes over the block for multi-token prediction is one program. After each pass this op
puts the tokens just drawn into the step's tables, at the next position, and into the histories that
the next draws look at. Sequences stand in descending order of how many tokens they want, so those
that have enough fall off the end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32, store_i32, store_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Address, Op, Table, given, offsets, updates, word, writes
from slotmux.kernels.ops.sampling.slot_words import SLOT


class Advance(Op, kernel="advance", changes_step=True):
    """The step's tokens, positions and sizes = those of the next pass"""

    slots: Address = given("a row of SLOT words for each slot")
    n_passes: Table[np.int64] = updates("[1], passes done so far")
    n_wanting: NDArray[np.int32] = given(
        "[passes + 1], how many sequences want a token from each pass, 0 behind the last"
    )
    tokens: Table[np.int32] = writes("[passes, n_seqs_max], drawn; -1 where nothing could be")
    logprobs: Table[np.float32] = writes("[passes, n_seqs_max]")

    @word
    def n_seqs_max(self) -> int:
        """Most sequences of a step."""
        return int(self.tokens.array.shape[1])

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_advance()


ADVANCE = offsets(Advance)


def build_advance() -> Callable[..., None]:
    """The kernel; one chunk, which changes the step: ops before and after it must be waited for."""

    def advance(op, step, thread):  # type: ignore[no-untyped-def]
        chunk = claim(thread, 1)
        while chunk >= 0:
            n_passes = load_i64(op + ADVANCE.n_passes)
            done = load_i64(n_passes)
            row = 4 * done * load_i64(op + ADVANCE.n_seqs_max)
            for i in range(load_i64(step + STEP.n_seqs)):
                at = 4 * i
                token = load_i32(load_i64(step + STEP.sampled) + at)
                logprob = load_f32(load_i64(step + STEP.logprob) + at)
                store_i32(load_i64(op + ADVANCE.tokens) + row + at, token)
                store_f32(load_i64(op + ADVANCE.logprobs) + row + at, logprob)
                token = max(token, np.int64(0))
                pos = load_i32(load_i64(step + STEP.positions) + at) + 1
                store_i32(load_i64(step + STEP.tokens) + at, token)
                store_i32(load_i64(step + STEP.positions) + at, pos)
                store_i32(load_i64(step + STEP.sample_pos) + at, pos + 1)
                slot = load_i32(load_i64(step + STEP.seq_slot) + at)
                slot = load_i64(op + ADVANCE.slots) + slot * (8 * len(SLOT))
                store_i32(load_i64(slot + SLOT.history) + 4 * pos, token)
            n = load_i32(load_i64(op + ADVANCE.n_wanting) + 4 * (done + 1))
            store_i64(step + STEP.n_tokens, n)
            store_i64(step + STEP.n_seqs, n)
            store_i64(step + STEP.n_outputs, n)
            store_i64(step + STEP.n_samples, n)
            store_i64(n_passes, done + 1)
            chunk = claim(thread, 1)

    return advance
