"""Which blocks of positions a token attends to, as bits, and how scores of the others are undone.

A sequence's positions fall into blocks of ``ratio`` neighbours. A token has a bit for each block:
its row of the choice is ``row_bytes`` long, block i is bit i % 8 of byte i // 8. Bits of blocks
that begin behind the token may be anything: the causal mask hides them.
"""

from __future__ import annotations

from numba import njit

from slotmux.kernels.address import load_i64, load_u8, store_f32
from slotmux.kernels.ops.attention.softmax import UNSEEN
from slotmux.kernels.ops.attention.tiles import CHUNK


def choice_bytes(n_positions: int, ratio: int) -> int:
    """Bytes of a token's row."""
    return -(-(n_positions // ratio + 1) // 64) * 8


@njit(forceinline=True)
def is_chosen(bits, block):
    """A block's bit, 0 or more."""
    return load_u8(bits + (block >> 3)) >> (block & 7) & 1


@njit
def any_chosen(choices, n_rows, ratio, first, n_cells):
    """Whether any of the rows has chosen a block with one of ``n_cells`` positions from ``first``
    on; choices: int64 addresses of the rows' bits."""
    for r in range(n_rows):
        bits = load_i64(choices + 8 * r)
        for block in range(first // ratio, (first + n_cells - 1) // ratio + 1):
            if is_chosen(bits, block):
                return True
    return False


@njit
def hide_unchosen(choices, n_rows, ratio, first, n_cells, scores):
    """Scores of a tile's rows over the positions from ``first`` on to UNSEEN, but for those of
    blocks that a row has chosen; rows of CHUNK floats."""
    end = first + n_cells
    for r in range(n_rows):
        bits, row = load_i64(choices + 8 * r), scores + 4 * (CHUNK * r - first)
        for block in range(first // ratio, (end - 1) // ratio + 1):
            if is_chosen(bits, block):
                continue
            for pos in range(max(first, block * ratio), min(end, (block + 1) * ratio)):
                store_f32(row + 4 * pos, UNSEEN)
