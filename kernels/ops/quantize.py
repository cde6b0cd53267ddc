"""Float32 rows to 8-bit activation tiles, where the op that made the rows could not do it."""

from __future__ import annotations

from collections.abc import Callable

from kernels.activations import TILE_ROWS, blocks_at
from kernels.address import load_i64
from kernels.claims import claim
from kernels.operands import words
from kernels.quantize import quantize_tile

# x: float32 rows of stride bytes; n: width; n_rows: address of their number; tiles: where to.
QUANTIZE = words("Quantize", "x stride n n_rows tiles")


SEGMENT = 512  # inputs of a tile of rows that a chunk covers


def build_quantize() -> Callable[..., None]:
    """The kernel; a chunk is a segment of a tile of rows."""

    def quantize(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + QUANTIZE.n_rows)), load_i64(op + QUANTIZE.n)
        stride, tiles = load_i64(op + QUANTIZE.stride), load_i64(op + QUANTIZE.tiles)
        n_segments = (n + SEGMENT - 1) // SEGMENT
        n_chunks = (n_rows + TILE_ROWS - 1) // TILE_ROWS * n_segments
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, first = chunk // n_segments * TILE_ROWS, chunk % n_segments * SEGMENT
            x = load_i64(op + QUANTIZE.x) + row * stride + 4 * first
            n_of_tile, width = min(TILE_ROWS, n_rows - row), min(SEGMENT, n - first)
            quantize_tile(x, stride, width, n_of_tile, blocks_at(tiles, n, row, first))
            chunk = claim(thread, n_chunks)

    return quantize
