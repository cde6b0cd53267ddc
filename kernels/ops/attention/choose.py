"""A token's best blocks by their keys, as bits (see index.py for the scores, choice.py for bits).

The worst score that is taken is found bit by bit, from the highest down: scores are not below zero,
where floats are in the order of their bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32, store_i32, store_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Op,
    Rows,
    Table,
    given,
    offsets,
    reads,
    round_up,
    word,
    writes,
)
from slotmux.kernels.ops.attention.index import key_at, padded
from slotmux.kernels.ops.attention.plan import block_table, seq_of
from slotmux.kernels.ops.dense.norm import load_row_vector

INFINITY_BITS = 0x7F800000  # above those of every score
ROOM = 64  # bytes of scratch before the queries: a float to be read by its bits


class ChooseBlocks(Op, kernel="choose_blocks"):
    """chosen = the blocks that each token attends to"""

    q: Rows = reads("float32 [n_tokens, n_head * d], normed and rotated")
    keys: Table[np.float32] = reads("see index.py")
    n_head: int = given("index heads")
    ratio: int = given("positions of a block")
    n_most: int = given("complete blocks that a token attends to")
    n_positions: int = given("that a sequence may have")
    row_bytes: int = given("of a token's bits")
    chosen: Table[np.uint8] = writes("[n_tokens, row_bytes]")

    @word
    def d(self) -> int:
        """Width of a key."""
        return self.q.width // self.n_head

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_choose_blocks()

    def scratch_bytes(self, isa: Isa) -> int:
        """The token's queries, and a score of every block."""
        n_blocks = round_up(self.n_positions // self.ratio, 16)
        return ROOM + 4 * (self.n_head * round_up(self.d, 16) + n_blocks)


CHOOSE_BLOCKS = offsets(ChooseBlocks)


@njit
def _take_queries(op, token, to):
    """A token's queries, each with zeros up to a multiple of 16."""
    d, n_head = load_i64(op + CHOOSE_BLOCKS.d), load_i64(op + CHOOSE_BLOCKS.n_head)
    q = load_i64(op + CHOOSE_BLOCKS.q) + token * load_i64(op + CHOOSE_BLOCKS.q_stride)
    for head in range(n_head):
        for i in range(0, d, 16):
            at = to + 4 * (head * padded(d) + i)
            simd.store(at, load_row_vector(q + 4 * head * d, i, d))


@njit(forceinline=True)
def _score(key, q, n_head, width):
    """The sum over heads of what is above zero; width: bytes of a key and of a query."""
    total = np.float32(0.0)
    for head in range(n_head):
        products = simd.splat(np.float32(0.0))
        for i in range(0, width, 64):
            products = simd.fma(simd.load(q + head * width + i), simd.load(key + i), products)
        dot = simd.sum_lanes(products)
        if dot > np.float32(0.0):
            total += dot
    return total


@njit
def _score_blocks(op, table, n_blocks, q, scores):
    """Scores of the sequence's first blocks; -1 up to a multiple of 16."""
    d, ratio = load_i64(op + CHOOSE_BLOCKS.d), load_i64(op + CHOOSE_BLOCKS.ratio)
    n_head, keys = load_i64(op + CHOOSE_BLOCKS.n_head), load_i64(op + CHOOSE_BLOCKS.keys)
    for block in range(n_blocks):
        key = key_at(keys, table, ratio, d, (block + 1) * ratio - 1)
        store_f32(scores + 4 * block, _score(key, q, n_head, 4 * padded(d)))
    for block in range(n_blocks, (n_blocks + 15) // 16 * 16):
        store_f32(scores + 4 * block, np.float32(-1.0))


@njit
def _n_not_below(scores, n_blocks, bound):
    """How many scores are not below ``bound``, which is not below zero."""
    one, zero = simd.splat(np.float32(1.0)), simd.splat(np.float32(0.0))
    total, bounds = zero, simd.splat(bound)
    for i in range(0, n_blocks, 16):
        total = total + simd.where_less(simd.load(scores + 4 * i), bounds, zero, one)
    return np.int64(simd.sum_lanes(total))


@njit(forceinline=True)
def _float_of(bits, room):
    store_i32(room, bits)
    return load_f32(room)


@njit
def _worst_taken(scores, n_blocks, n_most, room):
    """The ``n_most``-th largest score."""
    taken = np.int64(0)
    for i in range(31):
        bits = taken | np.int64(1) << (30 - i)
        if bits < INFINITY_BITS and (
            _n_not_below(scores, n_blocks, _float_of(bits, room)) >= n_most
        ):
            taken = bits
    return _float_of(taken, room)


@njit
def _set_bits(scores, n_blocks, n_most, worst, bits):
    """Those above ``worst``, and of those that equal it the first, ``n_most`` in all; also the
    bit of the block that follows the last."""
    n_equal = n_most
    for block in range(n_blocks):
        if load_f32(scores + 4 * block) > worst:
            n_equal -= 1
    for first in range(0, n_blocks + 1, 64):
        packed = np.int64(0)
        for block in range(first, min(first + 64, n_blocks)):
            score = load_f32(scores + 4 * block)
            takes_equal = score == worst and n_equal > 0
            if takes_equal:
                n_equal -= 1
            if takes_equal or score > worst:
                packed |= np.int64(1) << (block - first)
        if n_blocks < first + 64:
            packed |= np.int64(1) << (n_blocks - first)
        store_i64(bits + first // 8, packed)


@njit
def _choose(op, table, token, pos, scratch):
    n_blocks = (pos + 1) // load_i64(op + CHOOSE_BLOCKS.ratio)
    n_most, row_bytes = load_i64(op + CHOOSE_BLOCKS.n_most), load_i64(op + CHOOSE_BLOCKS.row_bytes)
    bits = load_i64(op + CHOOSE_BLOCKS.chosen) + token * row_bytes
    if n_blocks <= n_most:
        for i in range(0, n_blocks + 1, 64):
            store_i64(bits + i // 8, np.int64(-1))
        return
    q = scratch + ROOM
    scores = q + 4 * load_i64(op + CHOOSE_BLOCKS.n_head) * padded(load_i64(op + CHOOSE_BLOCKS.d))
    _take_queries(op, token, q)
    _score_blocks(op, table, n_blocks, q, scores)
    worst = _worst_taken(scores, n_blocks, n_most, scratch)
    _set_bits(scores, n_blocks, n_most, worst, bits)


def build_choose_blocks() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def choose_blocks(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            pos = load_i32(load_i64(step + STEP.positions) + 4 * token)
            table = block_table(step, seq_of(step, token))
            _choose(op, table, token, pos, load_i64(thread + 8 * T_SCRATCH))
            token = claim(thread, n_tokens)

    return choose_blocks
