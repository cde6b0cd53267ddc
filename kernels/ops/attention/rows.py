"""Query rows of a work item in a thread's scratch (products.py): gathered, then what they had from
chunks folded, then finished.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, store_f32
from slotmux.kernels.ops.attention.fold import finish_row, fold_tile, start_state
from slotmux.kernels.ops.attention.plan import TILE
from slotmux.kernels.ops.attention.products import (
    ROWS,
    S_L,
    S_M,
    S_Q,
    S_STATE_L,
    S_STATE_M,
    states_at,
    values_at,
)
from slotmux.kernels.ops.attention.unpack import unpacked_bytes


class Item(NamedTuple):
    """Rows ``first_row`` .. + ``n_rows`` of a sequence's run and a KV head: row r is query head
    r % group of those that share it, of the token r // group behind ``token``, the run's first."""

    token: int
    first_row: int
    n_rows: int
    group: int
    head: int


@njit(forceinline=True)
def place_of(item, r):
    """Token in the ubatch and query head of an item's row ``r``."""
    row = item.first_row + r
    return item.token + row // item.group, item.head * item.group + row % item.group


def rows_bytes(head_dim: int, v_padded: int) -> int:
    """Scratch up to the rows' states; ``v_padded``: a multiple of 16."""
    return S_Q + 4 * ROWS * head_dim + 4 * (TILE + ROWS) * v_padded


def rows_and_chunk_bytes(head_dim: int, v_padded: int) -> int:
    """The same and a chunk unpacked, behind them."""
    return rows_bytes(head_dim, v_padded) + unpacked_bytes(head_dim, v_padded)


@njit
def gather_rows(shape, scratch, q, stride, item):
    """Copy the item's query rows (of float32 [n_tokens, n_head * head_dim]) into scratch."""
    head_dim = shape.head_dim
    for r in range(item.n_rows):
        token, head = place_of(item, r)
        row = q + token * stride + head * head_dim * 4
        to = scratch + S_Q + r * head_dim * 4
        for d in range(0, head_dim - 15, 16):
            simd.store(to + 4 * d, simd.load(row + 4 * d))
        for d in range(head_dim // 16 * 16, head_dim):
            store_f32(to + 4 * d, load_f32(row + 4 * d))


@njit
def start_rows(shape, scratch, sinks, item):
    """The rows' states before any chunk; sinks: float32 of each head, or 0."""
    width, states = shape.v_padded, states_at(shape, scratch)
    for r in range(item.n_rows):
        m_at = scratch + S_STATE_M + 64 * (r // TILE) + 4 * (r % TILE)
        _, head = place_of(item, r)
        l_at = m_at + S_STATE_L - S_STATE_M
        start_state(states + 4 * width * r, m_at, l_at, width, sinks, head)


@njit
def fold_rows(shape, scratch, tile, n_rows):
    """What a tile's rows had from a chunk into their states."""
    width = shape.v_padded
    states = states_at(shape, scratch) + 4 * width * TILE * tile
    m_at, l_at = scratch + S_STATE_M + 64 * tile, scratch + S_STATE_L + 64 * tile
    values, m, total = values_at(shape, scratch), scratch + S_M, scratch + S_L
    fold_tile(states, m_at, l_at, values, m, total, n_rows, width)


@njit
def finish_rows(shape, scratch, out, stride, v_dim, item):
    """The rows' states to out: float32 [n_tokens, n_head * v_dim]."""
    states = states_at(shape, scratch)
    for r in range(item.n_rows):
        token, head = place_of(item, r)
        l_at = scratch + S_STATE_L + 64 * (r // TILE) + 4 * (r % TILE)
        to = out + token * stride + head * v_dim * 4
        finish_row(states + 4 * shape.v_padded * r, l_at, to, v_dim)
