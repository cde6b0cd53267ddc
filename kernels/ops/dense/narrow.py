"""Float32 rows rounded to BF16, for products with weights of that type."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.kernels import simd
from slotmux.kernels.address import load_i64
from slotmux.kernels.bf16 import round_bf16, store_bf16
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Count,
    Narrowed,
    Op,
    Rows,
    offsets,
    reads,
    round_up,
    word,
    writes,
)


class Narrow(Op, kernel="narrow"):
    """out = x rounded to BF16: two columns stand in a float's place, or each still has its own
    (see ``takes_bf16``)."""

    x: Rows = reads("float32 [n_rows, n]")
    out: Narrowed = writes("[n_rows, narrow_width(n)]")

    @word
    def n(self) -> int:
        """Width; as many as fit into a last vector are rounded too."""
        return self.x.width

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.x.n_rows

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_narrow(isa)


NARROW = offsets(Narrow)
CHUNK_ROWS = 4


def narrow_width(isa: Isa, n: int) -> int:
    """Floats in whose place n columns stand when they were rounded."""
    return round_up(n, 32) // 2 if isa is Isa.AVX512_BF16 else n


def build_narrow(isa: Isa) -> Callable[..., None]:
    """The kernel; a chunk is a few rows."""
    to_words = isa is Isa.AVX512_BF16

    def narrow(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + NARROW.n_rows))
        n_chunks = (n_rows + CHUNK_ROWS - 1) // CHUNK_ROWS
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            for row in range(CHUNK_ROWS * chunk, min(CHUNK_ROWS * (chunk + 1), n_rows)):
                x = load_i64(op + NARROW.x) + row * load_i64(op + NARROW.x_stride)
                out = load_i64(op + NARROW.out) + row * load_i64(op + NARROW.out_stride)
                for i in range(0, load_i64(op + NARROW.n), 16):
                    if to_words:
                        store_bf16(out + 2 * i, simd.load(x + 4 * i))
                    else:
                        simd.store(out + 4 * i, round_bf16(simd.load(x + 4 * i)))
            chunk = claim(thread, n_chunks)

    return narrow
