"""How kernels see activations that were quantised to 8 bits.

Rows (tokens) stand in tiles of 8. A tile is a run of blocks, one for each 32 inputs, so that one
pointer with constant offsets reaches everything that a product of 16 outputs x 8 rows needs:

    256 bytes  codes, int8: 8 groups of 4 inputs x 8 rows x 4 inputs
 2 x 32 bytes  scale, f32 per row: largest magnitude / 127, of the first and the last 16 inputs
     32 bytes  sum, f32 per row: of codes, each times its scale (for formats with a minimum)
 2 x 32 bytes  offset, int32 per row: -8 * sum of the first and the last 16 codes (for formats with
               an offset or minima per 16 inputs)
"""

from __future__ import annotations

from numba import njit

from slotmux.kernels.address import load_i32, store_i32

TILE_ROWS = 8
BLOCK = 32  # inputs
# A row's part of a block is 13 words of 4 bytes: 8 of codes, two scales, the sum, two offsets. Word
# i of row m stands at 4 * (height * i + m), for tiles of ``height`` rows.
SCALES, SUM, OFFSETS, N_WORDS = 8, 10, 11, 13
BLOCK_BYTES = 4 * N_WORDS * TILE_ROWS


def tile_bytes(n_inputs: int) -> int:
    """Size of a tile of 8 rows."""
    return n_inputs // BLOCK * BLOCK_BYTES


@njit(forceinline=True)
def blocks_at(tiles, n_inputs, row, column):
    """Address of the block with input ``column`` of row ``row`` (of all), each of n_inputs."""
    return tiles + (row // TILE_ROWS * (n_inputs // BLOCK) + column // BLOCK) * BLOCK_BYTES


@njit(forceinline=True)
def n_tile_parts(n_rows, n, width):
    """Into how many parts ``tile_part`` cuts n_rows of n columns."""
    return (n_rows + TILE_ROWS - 1) // TILE_ROWS * ((n + width - 1) // width)


@njit(forceinline=True)
def tile_part(part, n_rows, n, width):
    """Of a part, which is ``width`` columns of a tile of rows: first row, number of rows, first
    column, end."""
    n_parts = (n + width - 1) // width
    row, first = part // n_parts * TILE_ROWS, part % n_parts * width
    return row, min(TILE_ROWS, n_rows - row), first, min(first + width, n)


@njit
def copy_row(source, row, target, to_row, n_inputs):
    """Copy one row of tiles to row ``to_row`` of other tiles."""
    n_blocks = n_inputs // BLOCK
    source += row // TILE_ROWS * n_blocks * BLOCK_BYTES + row % TILE_ROWS * 4
    target += to_row // TILE_ROWS * n_blocks * BLOCK_BYTES + to_row % TILE_ROWS * 4
    for word in range(n_blocks * BLOCK_BYTES // 32):
        store_i32(target + 32 * word, load_i32(source + 32 * word))


@njit
def compact_tile(source, n_blocks, height, target):
    """Copy the first ``height`` rows of a tile to a tile of that many rows.

    A product of one row reads an eighth of a tile's bytes, but all of its cache lines: with 4096
    inputs they fill more than an L1, and a stream of weights runs at three quarters of its speed.
    """
    for k in range(n_blocks):
        for word in range(N_WORDS):
            for row in range(height):
                at = target + 4 * ((k * N_WORDS + word) * height + row)
                store_i32(at, load_i32(source + k * BLOCK_BYTES + 32 * word + 4 * row))
