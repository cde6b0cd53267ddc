"""Float32 rows to 8-bit activation tiles, where the op that made the rows could not do it."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.kernels.activations import blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import words
from slotmux.kernels.quantize import quantize_tile

# x: float32 rows of stride bytes; n: width; n_rows: address of their number; tiles: where to.
QUANTIZE = words("Quantize", "x stride n n_rows tiles")


SEGMENT = 512  # inputs of a tile of rows that a chunk covers


def build_quantize() -> Callable[..., None]:
    """The kernel; a chunk is a segment of a tile of rows."""

    def quantize(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + QUANTIZE.n_rows)), load_i64(op + QUANTIZE.n)
        stride, tiles = load_i64(op + QUANTIZE.stride), load_i64(op + QUANTIZE.tiles)
        n_chunks = n_tile_parts(n_rows, n, SEGMENT)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, SEGMENT)
            x = load_i64(op + QUANTIZE.x) + row * stride + 4 * first
            quantize_tile(x, stride, end - first, n_of_tile, blocks_at(tiles, n, row, first))
            chunk = claim(thread, n_chunks)

    return quantize
