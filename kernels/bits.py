"""Lane masks as integers: bit i of an int64 stands for lane i of a vector."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from slotmux.kernels.address import I16, I64
from slotmux.kernels.simd import LANES, f32x16

I1X16 = ir.VectorType(ir.IntType(1), LANES)


@intrinsic
def bits_at_least(ctx: Any, x: Any, y: Any) -> Any:
    """The lanes where x >= y, as bits; a NaN is not."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.zext(b.bitcast(b.fcmp_ordered(">=", *args), I16), I64)

    return types.int64(f32x16, f32x16), codegen


@intrinsic
def where_bits(ctx: Any, bits: Any, x: Any, y: Any) -> Any:
    """Per lane: x where the bit is set, else y; bits above 15 are ignored."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        bits, x, y = args
        return b.select(b.bitcast(b.trunc(bits, I16), I1X16), x, y)

    return f32x16(types.int64, f32x16, f32x16), codegen


@intrinsic
def lowest_bit(ctx: Any, bits: Any) -> Any:
    """Number of the lowest set bit; 64 when none is set."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), codegen
