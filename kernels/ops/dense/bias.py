"""x += bias, for the projections that have one."""

from __future__ import annotations

from collections.abc import Callable

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Count, Op, Rows, Vector, given, offsets, updates, word


class AddBias(Op, kernel="add_bias"):
    """x += bias"""

    x: Rows = updates("float32 [n_rows, n]")
    bias: Vector = given("float32 [n]")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.x.n_rows

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_add_bias()


ADD_BIAS = offsets(AddBias)


def build_add_bias() -> Callable[..., None]:
    """The kernel; a chunk is a row."""

    def add_bias(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + ADD_BIAS.n_rows))
        row = claim(thread, n_rows)
        while row >= 0:
            x = load_i64(op + ADD_BIAS.x) + row * load_i64(op + ADD_BIAS.x_stride)
            n, bias = load_i64(op + ADD_BIAS.n), load_i64(op + ADD_BIAS.bias)
            whole = n // 16 * 16
            for i in range(0, whole, 16):
                simd.store(x + 4 * i, simd.load(x + 4 * i) + simd.load(bias + 4 * i))
            for i in range(whole, n):
                store_f32(x + 4 * i, load_f32(x + 4 * i) + load_f32(bias + 4 * i))
            row = claim(thread, n_rows)

    return add_bias
