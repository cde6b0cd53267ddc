"""Float32 rows to 8-bit activation tiles, where the op that made the rows could not do it."""

from __future__ import annotations

from collections.abc import Callable

from kernels.activations import quantize_row
from kernels.address import load_i64
from kernels.claims import claim
from kernels.operands import words

# x: float32 rows of stride bytes; n: width; n_rows: address of their number; tiles: where to.
QUANTIZE = words("Quantize", "x stride n n_rows tiles")


def build_quantize() -> Callable[..., None]:
    """The kernel; a chunk is a row."""

    def quantize(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + QUANTIZE.n_rows))
        row = claim(thread, n_rows)
        while row >= 0:
            x = load_i64(op + QUANTIZE.x) + row * load_i64(op + QUANTIZE.stride)
            quantize_row(x, load_i64(op + QUANTIZE.n), load_i64(op + QUANTIZE.tiles), row)
            row = claim(thread, n_rows)

    return quantize
