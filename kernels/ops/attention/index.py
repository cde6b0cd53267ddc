"""Choosing what a token attends to, by keys of whole blocks of positions (Qwen 3.8's indexer).

Blocks of ``ratio`` positions have one key each, the mean of its tokens' raw keys, normed, and
rotated as its first position is. With the token's normed and rotated index queries q_h:

    score of a block = sum over heads h of max(q_h . key, 0)

A token attends to the ``n_most`` best of the blocks that are complete at its position (of equal
ones to those that come first), and to all positions behind them.

A block's key stands beside the cells of its last position: [blocks of cells][slots][width] float32,
slot (position % 16) // ratio of those that a block of cells has, in each d floats and zeros up to
a multiple of 16. What a block that is not complete adds up to so far is in the state row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_f64, load_i32, load_i64, store_f32
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Op,
    Rows,
    State,
    Table,
    Vector,
    given,
    keeps,
    offsets,
    reads,
    round_up,
    word,
    writes,
)
from slotmux.kernels.ops.attention.cells import CELLS
from slotmux.kernels.ops.attention.plan import block_table
from slotmux.kernels.ops.attention.rope import rotate_halves
from slotmux.kernels.ops.dense.norm import load_row_vector, rms_norm_row
from slotmux.kernels.ops.recurrent.frame import copy_vectors, locate_run
from slotmux.kernels.scalar import cos_sin


class IndexKeys(Op, kernel="index_keys"):
    """keys = those of the blocks that the step's tokens complete"""

    x: Rows = reads("float32 [n_tokens, d], raw keys")
    ratio: int = given("positions of a block, 2 or more")
    weight: Vector = given("float32 [d], of the norm")
    eps: float = given("float32, of the norm")
    frequency: NDArray[np.float64] = given("[n_pairs], angle per position; pairs are halves")
    magnitude: float = given("float32, of cos and sin")
    keys: Table[np.float32] = writes("see above")
    state: State | None = keeps(
        "float32 [d rounded up to 16], the sum of the raw keys of the block that is not complete; "
        "of each draft its raw key"
    )

    @word
    def d(self) -> int:
        """Width of a key."""
        return self.x.width

    @word
    def n_pairs(self) -> int:
        """Rotated pairs of a key."""
        return self.frequency.size

    @property
    def state_floats(self) -> int:
        return round_up(self.d, 16)

    @property
    def pending_floats(self) -> int:
        return round_up(self.d, 16)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_index_keys()

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of the state, a key, cos and sin of its pairs."""
        return 4 * (2 * round_up(self.d, 16) + 2 * round_up(self.n_pairs, 16))


INDEX_KEYS = offsets(IndexKeys)


def key_slots(ratio: int) -> int:
    """Blocks that can end within a block of cells."""
    return -(-CELLS // ratio)


@njit(forceinline=True)
def padded(d):
    """Floats that a key takes."""
    return (d + 15) // 16 * 16


@njit(forceinline=True)
def key_at(keys, table, ratio, d, pos):
    """Where the key of the block is that ends with position ``pos``."""
    cells = load_i32(table + 4 * (pos // CELLS))
    slot = cells * ((CELLS + ratio - 1) // ratio) + pos % CELLS // ratio
    return keys + 4 * padded(d) * slot


@njit
def _add(op, total, x, pos):
    """A token's raw key to the sum of its block, which may begin with it."""
    d = load_i64(op + INDEX_KEYS.d)
    is_first = pos % load_i64(op + INDEX_KEYS.ratio) == 0
    for i in range(0, d, 16):
        value = load_row_vector(x, i, d)
        if not is_first:
            value = simd.load(total + 4 * i) + value
        simd.store(total + 4 * i, value)


@njit
def _rotate_key(op, key, first, cos):
    """As position ``first`` is; ``cos`` and behind it as much for the sines: working memory."""
    n_pairs, frequency = load_i64(op + INDEX_KEYS.n_pairs), load_i64(op + INDEX_KEYS.frequency)
    magnitude, sin = load_f32(load_i64(op + INDEX_KEYS.magnitude)), cos + 4 * padded(n_pairs)
    for i in range(n_pairs):
        c, s = cos_sin(np.float64(first) * load_f64(frequency + 8 * i))
        store_f32(cos + 4 * i, np.float32(c) * magnitude)
        store_f32(sin + 4 * i, np.float32(s) * magnitude)
    rotate_halves(key, n_pairs, cos, sin)


@njit
def _complete(op, table, total, pos, key):
    """The block that ends with ``pos`` gets its key; ``key``: working memory."""
    d, ratio = load_i64(op + INDEX_KEYS.d), load_i64(op + INDEX_KEYS.ratio)
    share = simd.splat(np.float32(1.0) / np.float32(ratio))
    for i in range(0, 4 * padded(d), 64):
        simd.store(key + i, simd.load(total + i) * share)
    eps = load_f32(load_i64(op + INDEX_KEYS.eps))
    rms_norm_row(key, d, load_i64(op + INDEX_KEYS.weight), eps, key)
    _rotate_key(op, key, pos + 1 - ratio, key + 4 * padded(d))
    to = key_at(load_i64(op + INDEX_KEYS.keys), table, ratio, d, pos)
    copy_vectors(key, padded(d), to)


@njit
def _index_tokens(op, table, total, token, n_tokens, pos, key):
    """Add tokens' raw keys from position ``pos`` on, and complete blocks."""
    x, stride = load_i64(op + INDEX_KEYS.x), load_i64(op + INDEX_KEYS.x_stride)
    for t in range(n_tokens):
        _add(op, total, x + (token + t) * stride, pos + t)
        if (pos + t + 1) % load_i64(op + INDEX_KEYS.ratio) == 0:
            _complete(op, table, total, pos + t, key)


@njit
def _index_run(op, table, run, pos, scratch):
    """A sequence's run, which begins at ``pos``: accepted drafts, whose blocks have their keys, its
    tokens, and drafts from a copy of the sum."""
    d = load_i64(op + INDEX_KEYS.d)
    width, copy = 4 * padded(d), scratch
    for i in range(run.n_pending):
        _add(op, run.state, run.pending + i * width, pos - run.n_pending + i)
    key = scratch + width
    _index_tokens(op, table, run.state, run.first, run.n_kept, pos, key)
    draft = run.first + run.n_kept
    copy_vectors(run.state, padded(d), copy)
    _index_tokens(op, table, copy, draft, run.n_drafts, pos + run.n_kept, key)
    for i in range(run.n_drafts):
        x = load_i64(op + INDEX_KEYS.x) + (draft + i) * load_i64(op + INDEX_KEYS.x_stride)
        for c in range(0, d, 16):
            simd.store(run.pending + i * width + 4 * c, load_row_vector(x, c, d))


def build_index_keys() -> Callable[..., None]:
    """The kernel; a chunk is a sequence's run."""

    def index_keys(op, step, thread):  # type: ignore[no-untyped-def]
        n_runs = load_i64(step + STEP.n_seqs)
        number = claim(thread, n_runs)
        while number >= 0:
            rows, stride = load_i64(op + INDEX_KEYS.rows), load_i64(op + INDEX_KEYS.row_stride)
            run = locate_run(rows, stride, load_i64(op + INDEX_KEYS.pending), step, number)
            pos = load_i32(load_i64(step + STEP.positions) + 4 * run.first)
            table = block_table(step, number)
            _index_run(op, table, run, pos, load_i64(thread + 8 * T_SCRATCH))
            number = claim(thread, n_runs)

    return index_keys
