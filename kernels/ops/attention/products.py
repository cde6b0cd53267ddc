"""A tile of query rows over one chunk of cells: scores, softmax terms, weighted values.

Tiles of few rows read cells as they are; many rows read a chunk unpacked to floats (unpack.py).
The operations on a row are the same, in the same order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i32, load_i64, store_i64
from slotmux.kernels.cpu import Isa
from slotmux.kernels.ops.attention.cells import CELLS, WORDS, build_head_bytes
from slotmux.kernels.ops.attention.choice import any_chosen, hide_unchosen
from slotmux.kernels.ops.attention.latent_tiles import build_latent_scores, build_latent_values
from slotmux.kernels.ops.attention.plan import GROUP_TILES, TILE, first_pos
from slotmux.kernels.ops.attention.softmax import largest_score, softmax_terms
from slotmux.kernels.ops.attention.tiles import CHUNK, build_scores, build_values
from slotmux.kernels.ops.attention.unpack import (
    build_unpack_keys,
    build_unpack_values,
    build_unpacked_scores,
    build_unpacked_values,
    prefetch_bytes,
    unpacked_values_at,
)
from slotmux.kernels.ops.attention.word_tiles import (
    build_word_scores,
    build_word_values,
    query_codes,
)
from slotmux.kernels.ops.dense.elementwise import tanh

CHUNK_BLOCKS = CHUNK // CELLS
ROWS = TILE * GROUP_TILES
# A thread's scratch, in bytes: addresses of a chunk's blocks; the rows' positions, and where their
# choices are; m, and l, of the rows of a tile in a chunk, and of every tile's so far, a vector for
# each tile; a tile's scores.
# Behind them, as wide as heads are: query rows, a tile's values of a chunk, the rows' states, the
# chunk unpacked.
S_KEYS, S_VALUES, S_LATER = (8 * CHUNK_BLOCKS * i for i in range(3))
S_POS = S_LATER + 8 * CHUNK_BLOCKS
S_CHOICE = S_POS + 8 * ROWS
S_M, S_L = S_CHOICE + 8 * ROWS, S_CHOICE + 8 * ROWS + 64
S_STATE_M, S_STATE_L = (S_L + 64 + 64 * GROUP_TILES * i for i in range(2))
S_SCORES = S_STATE_L + 64 * GROUP_TILES
S_Q = S_SCORES + 4 * CHUNK * TILE


class Shape(NamedTuple):
    """What products need of an op, read once for a work item."""

    head_dim: int
    v_padded: int  # v_dim rounded up to 16
    n_head_kv: int
    k_cells: int  # addresses
    v_cells: int
    window: int
    softcap: float
    ratio: int  # positions of the blocks that rows choose; 0: they see all


@njit(forceinline=True)
def values_at(shape, scratch):
    """Where a tile's values of a chunk are, behind the query rows."""
    return scratch + S_Q + 4 * ROWS * shape.head_dim


@njit(forceinline=True)
def states_at(shape, scratch):
    """Where the rows' states are, behind a tile's values."""
    return values_at(shape, scratch) + 4 * TILE * shape.v_padded


@njit(forceinline=True)
def unpacked_at(shape, scratch):
    """Where a chunk's floats are, behind the states."""
    return states_at(shape, scratch) + 4 * ROWS * shape.v_padded


@njit(forceinline=True)
def n_blocks_of(n_cells):
    """Blocks that so many cells fill."""
    return (n_cells + CELLS - 1) // CELLS


@njit
def cap_scores(scores, n_rows, n, cap):
    """cap * tanh(s / cap) of the first n scores of each row, in place."""
    c = simd.splat(cap)
    for r in range(n_rows):
        for i in range(0, n, 16):
            at = scores + 4 * (CHUNK * r + i)
            simd.store(at, c * tanh(simd.load(at) / c))


@njit
def _terms_of_rows(shape, scratch, n_rows, first, n_blocks, row_pos):
    """A tile's scores of the chunk from position ``first`` on to terms."""
    scores = scratch + S_SCORES
    for r in range(n_rows):
        pos, row = load_i64(row_pos + 8 * r), scores + 4 * CHUNK * r
        seen_from = first_pos(pos, shape.window) - first
        largest_score(row, seen_from, pos + 1 - first, n_blocks, scratch + S_M + 4 * r)
    for r in range(n_rows):
        pos, row = load_i64(row_pos + 8 * r), scores + 4 * CHUNK * r
        seen_from, m_at = first_pos(pos, shape.window) - first, scratch + S_M + 4 * r
        softmax_terms(row, seen_from, pos + 1 - first, n_blocks, m_at, m_at + S_L - S_M)


def _build_weigh(has_choice: bool) -> Any:
    """weigh(shape, scratch, n_rows, first, n_cells, row_pos): a tile's scores of the chunk from
    position ``first`` on, capped if that is asked, to terms; row_pos: int64 address of the rows'
    positions, and as far behind it as in scratch where their choices are."""

    @njit
    def weigh(shape, scratch, n_rows, first, n_cells, row_pos):
        scores, n_blocks = scratch + S_SCORES, n_blocks_of(n_cells)
        if shape.softcap > 0.0:
            cap_scores(scores, n_rows, CELLS * n_blocks, shape.softcap)
        if has_choice:
            choices = row_pos + S_CHOICE - S_POS
            hide_unchosen(choices, n_rows, shape.ratio, first, n_cells, scores)
        _terms_of_rows(shape, scratch, n_rows, first, n_blocks, row_pos)

    return weigh


@njit
def _any_row_sees(shape, row_pos, n_rows, first, n_cells):
    """Whether one of the rows has chosen anything of a chunk."""
    choices = row_pos + S_CHOICE - S_POS
    return any_chosen(choices, n_rows, shape.ratio, first, n_cells)


@njit
def _all_is_seen(shape, row_pos, n_rows, first, n_cells):
    return True


class Products:
    """How a tile of rows attends to a chunk, for one pair of cell types; all are functions.

    prepare(q, head_dim): a query row to the form that scores take, in place.
    find(shape, scratch, table, head, to_next, chunk, n_blocks): addresses of the chunk's blocks,
    and of those ``to_next`` heads on, whose K is asked for ahead.
    attend(shape, scratch, tile, n_rows, first, n_cells, row_pos): from cells, values to
    ``values_at``, m and l to S_M and S_L.
    unpack(shape, scratch, n_cells), then attend_unpacked: the same, of many rows.
    ask(shape, table, head, i): has block ``i`` of a sequence brought near, which is unpacked next.
    sees(shape, row_pos, n_rows, first, n_cells): whether rows see anything of a chunk by what they
    have chosen; without ``has_choice`` they always do.
    """

    def __init__(self, isa: Isa, k_type: str, v_type: str, *, has_choice: bool = False) -> None:
        weigh = _build_weigh(has_choice)
        self.sees = _any_row_sees if has_choice else _all_is_seen
        is_words = k_type == WORDS, v_type == WORDS
        self.prepare = query_codes if is_words[0] else _as_it_is
        self.find = _build_find(k_type, v_type)
        scores = build_word_scores(isa) if is_words[0] else build_scores(k_type)
        values = build_word_values(isa) if is_words[1] else build_values(v_type)
        self.attend = _build_attend(scores, values, weigh)
        self.unpack = _build_unpack(k_type, v_type)
        self.ask = _build_ask(k_type, v_type)
        self.attend_unpacked = _build_attend_unpacked(
            scores if is_words[0] else build_unpacked_scores(k_type),
            values if is_words[1] else build_unpacked_values(),
            weigh,
        )


def _build_find(k_type: str, v_type: str) -> Any:
    k_bytes_of, v_bytes_of = build_head_bytes(k_type), build_head_bytes(v_type)

    @njit
    def find(shape, scratch, table, head, to_next, chunk, n_blocks):
        n_head_kv = shape.n_head_kv
        k_bytes = k_bytes_of(shape.head_dim)
        v_bytes = v_bytes_of(shape.v_padded)
        for i in range(n_blocks):
            block = load_i32(table + 4 * (chunk * CHUNK_BLOCKS + i)) * n_head_kv + head
            key = shape.k_cells + block * k_bytes
            store_i64(scratch + S_KEYS + 8 * i, key)
            store_i64(scratch + S_LATER + 8 * i, key + to_next * k_bytes)
            value = shape.v_cells + block * v_bytes
            store_i64(scratch + S_VALUES + 8 * i, value)

    return find


def _build_ask(k_type: str, v_type: str) -> Any:
    k_bytes_of, v_bytes_of = build_head_bytes(k_type), build_head_bytes(v_type)

    @njit
    def ask(shape, table, head, i):
        block = load_i32(table + 4 * i) * shape.n_head_kv + head
        k_bytes = k_bytes_of(shape.head_dim)
        v_bytes = v_bytes_of(shape.v_padded)
        prefetch_bytes(shape.k_cells + block * k_bytes, k_bytes)
        prefetch_bytes(shape.v_cells + block * v_bytes, v_bytes)

    return ask


def _build_attend(scores_of: Any, values_of: Any, weigh: Any) -> Any:
    @njit
    def attend(shape, scratch, tile, n_rows, first, n_cells, row_pos):
        head_dim, scores = shape.head_dim, scratch + S_SCORES
        keys, values, later = scratch + S_KEYS, scratch + S_VALUES, scratch + S_LATER
        q = scratch + S_Q + tile * TILE * head_dim * 4
        scores_of(n_rows, q, head_dim * 4, head_dim, keys, values, n_blocks_of(n_cells), scores)
        weigh(shape, scratch, n_rows, first, n_cells, row_pos)
        values_of(n_rows, scores, values, later, shape.v_padded, n_cells, values_at(shape, scratch))

    return attend


def _build_unpack(k_type: str, v_type: str) -> Any:
    unpack_keys, unpack_values = build_unpack_keys(k_type), build_unpack_values(v_type)

    @njit
    def unpack(shape, scratch, n_cells):
        head_dim, to = shape.head_dim, unpacked_at(shape, scratch)
        unpack_keys(scratch + S_KEYS, n_blocks_of(n_cells), head_dim, to)
        to = unpacked_values_at(to, head_dim)
        unpack_values(scratch + S_VALUES, n_cells, shape.v_padded, to)

    return unpack


def _build_attend_unpacked(scores_of: Any, values_of: Any, weigh: Any) -> Any:
    @njit
    def attend_unpacked(shape, scratch, tile, n_rows, first, n_cells, row_pos):
        head_dim, scores = shape.head_dim, scratch + S_SCORES
        q = scratch + S_Q + tile * TILE * head_dim * 4
        keys, values = scratch + S_KEYS, scratch + S_VALUES
        scores_of(n_rows, q, head_dim * 4, head_dim, keys, values, n_blocks_of(n_cells), scores)
        weigh(shape, scratch, n_rows, first, n_cells, row_pos)
        out = values_at(shape, scratch)
        values_of(n_rows, scores, values, values, shape.v_padded, n_cells, out)

    return attend_unpacked


class LatentProducts:
    """The same of latent cells (latent.py): one KV head of ``head_dim`` floats, of which the first
    are its values; ``k_cells`` holds both. Nothing is unpacked."""

    def __init__(self, cell_type: str) -> None:
        self.prepare = _as_it_is
        self.find = _build_latent_find(cell_type)
        self.attend = _build_latent_attend(cell_type)
        self.unpack, self.ask = _nothing_to_unpack, _nothing_to_ask
        self.sees = _all_is_seen
        self.attend_unpacked = self.attend


@njit
def _as_it_is(q, head_dim):
    pass


@njit
def _nothing_to_unpack(shape, scratch, n_cells):
    pass


@njit
def _nothing_to_ask(shape, table, head, i):
    pass


def _build_latent_find(cell_type: str) -> Any:
    bytes_of = build_head_bytes(cell_type)

    @njit
    def find(shape, scratch, table, head, to_next, chunk, n_blocks):
        n_bytes = bytes_of(shape.head_dim)
        for i in range(n_blocks):
            block = load_i32(table + 4 * (chunk * CHUNK_BLOCKS + i))
            store_i64(scratch + S_KEYS + 8 * i, shape.k_cells + block * n_bytes)

    return find


def _build_latent_attend(cell_type: str) -> Any:
    scores_of, values_of = build_latent_scores(cell_type), build_latent_values(cell_type)
    weigh = _build_weigh(has_choice=False)

    @njit
    def attend(shape, scratch, tile, n_rows, first, n_cells, row_pos):
        width, scores = shape.head_dim, scratch + S_SCORES
        blocks, q = scratch + S_KEYS, scratch + S_Q + tile * TILE * width * 4
        scores_of(n_rows, q, width * 4, width, blocks, n_blocks_of(n_cells), scores)
        weigh(shape, scratch, n_rows, first, n_cells, row_pos)
        out = values_at(shape, scratch)
        values_of(n_rows, scores, blocks, width, shape.v_padded, n_cells, out)

    return attend
