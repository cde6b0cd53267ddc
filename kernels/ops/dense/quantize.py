"""Float32 rows to 8-bit activation tiles, where the op that made the rows could not do it."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.kernels.activations import blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Count, Op, Rows, Tiles, offsets, reads, word, writes
from slotmux.kernels.quantize import quantize_tile


class Quantize(Op, kernel="quantize"):
    """tiles = x in 8 bits (kernels/activations.py)"""

    x: Rows = reads("float32 [n_rows, n]")
    tiles: Tiles = writes("[n_rows, n], n a multiple of 32")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.x.n_rows

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_quantize()


QUANTIZE = offsets(Quantize)
SEGMENT = 512  # inputs of a tile of rows that a chunk covers


def build_quantize() -> Callable[..., None]:
    """The kernel; a chunk is a segment of a tile of rows."""

    def quantize(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + QUANTIZE.n_rows)), load_i64(op + QUANTIZE.n)
        stride, tiles = load_i64(op + QUANTIZE.x_stride), load_i64(op + QUANTIZE.tiles)
        n_chunks = n_tile_parts(n_rows, n, SEGMENT)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, SEGMENT)
            x = load_i64(op + QUANTIZE.x) + row * stride + 4 * first
            quantize_tile(x, stride, end - first, n_of_tile, blocks_at(tiles, n, row, first))
            chunk = claim(thread, n_chunks)

    return quantize
