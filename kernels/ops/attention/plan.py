"""How a step's attention is cut into work items, and what its ops share.

A sequence with many tokens gives items of up to 64 query rows over all their chunks; one with few
tokens on a long context gives items of a tile over one chunk, folded afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels.address import load_i32, load_i64, store_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Table, given, offsets, writes
from slotmux.kernels.ops.attention.tiles import CHUNK

TILE = 8  # query rows computed together; a row is one token's head
GROUP_TILES = 8  # tiles of a prompt that share a chunk's K and V in cache
SPLIT_TOKENS = 16  # a sequence with at most so many tokens in the ubatch may be split by chunks


class AttentionPlan(Op, kernel="attention_plan"):
    """How the step's attention is cut, for all layers of one shape."""

    counts: Table[np.int64] = writes("[n_slots + 1], work items before each sequence of the ubatch")
    split_base: Table[np.int64] = writes("[n_slots], first row in partials; -1: not split")
    split_capacity: int = given("rows that partials can hold, of one head and chunk each")
    group: int = given("query heads that share a KV head")
    n_head_kv: int = given("KV heads")
    window: int = given("positions that a token sees; 0: all; below 0: see first_pos")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_attention_plan()


PLAN = offsets(AttentionPlan)


@njit
def seq_tokens(step, seq):
    """First token of a sequence's run in the ubatch, and how many."""
    starts = load_i64(step + STEP.seq_start) + 4 * seq
    first = load_i32(starts)
    return first, load_i32(starts + 4) - first


@njit
def first_pos(pos, window):
    """First position that a token at ``pos`` sees: the last ``window`` of them, or all from where
    its chunk of -``window`` begins (0: all)."""
    if window < 0:
        return pos // -window * -window
    return max(np.int64(0), pos - window + 1) if window > 0 else np.int64(0)


@njit
def chunks_seen(step, seq, window):
    """First chunk that a sequence's run in the ubatch sees, and how many."""
    first, n = seq_tokens(step, seq)
    positions = load_i64(step + STEP.positions) + 4 * first
    start = first_pos(load_i32(positions), window) // CHUNK
    return start, load_i32(positions + 4 * (n - 1)) // CHUNK + 1 - start


@njit
def partial_row(base, place, n_chunks, chunk):
    """Row in partials of a chunk (counted from the first that is seen), for the token and head at
    ``place`` of a sequence that begins at ``base``: a head's chunks stand side by side."""
    return base + place * n_chunks + chunk


def build_attention_plan() -> Callable[..., None]:
    """How many work items each sequence gives; one chunk in all."""

    def attention_plan(op, step, thread):  # type: ignore[no-untyped-def]
        chunk = claim(thread, 1)
        while chunk >= 0:
            counts, bases = load_i64(op + PLAN.counts), load_i64(op + PLAN.split_base)
            group, window = load_i64(op + PLAN.group), load_i64(op + PLAN.window)
            n_head_kv = load_i64(op + PLAN.n_head_kv)
            total, base = np.int64(0), np.int64(0)
            store_i64(counts, 0)
            for seq in range(load_i64(step + STEP.n_seqs)):
                _, n = seq_tokens(step, seq)
                _, n_chunks = chunks_seen(step, seq, window)
                n_rows = n * group
                end = base + n_rows * n_head_kv * n_chunks
                fits = end <= load_i64(op + PLAN.split_capacity)
                if n <= SPLIT_TOKENS and n_chunks > 1 and fits:
                    store_i64(bases + 8 * seq, base)
                    base = end
                    n_items = (n_rows + TILE - 1) // TILE * n_chunks
                else:
                    store_i64(bases + 8 * seq, -1)
                    n_items = (n_rows + TILE * GROUP_TILES - 1) // (TILE * GROUP_TILES)
                total += n_items * n_head_kv
                store_i64(counts + 8 * (seq + 1), total)
            chunk = claim(thread, 1)

    return attention_plan


@njit
def block_table(step, seq):
    slot = load_i32(load_i64(step + STEP.seq_slot) + 4 * seq)
    return load_i64(step + STEP.block_tables) + 4 * slot * load_i64(step + STEP.max_blocks)


@njit
def seq_of(step, token):
    seq = np.int64(0)
    while load_i32(load_i64(step + STEP.seq_start) + 4 * (seq + 1)) <= token:
        seq += 1
    return seq
