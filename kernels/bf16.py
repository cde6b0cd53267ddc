"""BF16 weights times rows rounded to BF16: one rule for every CPU, so that all give the same bits.

vdpbf16ps adds an odd input's product to a float32, then the even one's, each sum rounded to nearest
even; it takes denormal inputs and sums for zero. Two FMAs do the same but for the denormals. So
there are none: weights and rounded activations below 2^-56 are zero. Others are whole multiples of
2^-63, their products and all sums of them multiples of 2^-126, the least normal number.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import I16, PTR
from slotmux.kernels.simd import F32X16, I32X16, f32x16

LEAST_EXPONENT = 127 - 56  # of a float's bits; what is smaller is zero


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BF16X32 = ir.VectorType(_BFloat(), 32)


def dot2(b: Any, acc: Any, x: Any, y: Any) -> Any:
    """acc plus the two products of each lane, the odd one's first. Only for Isa.AVX512_BF16."""
    kind = ir.FunctionType(F32X16, [F32X16, BF16X32, BF16X32])
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), [acc, x, y])


def _rounded_ir(b: Any, x: Any) -> Any:
    """Bits of 16 floats rounded to the nearest BF16, ties to even; NaN stays NaN."""

    def const(value: int) -> Any:
        return ir.Constant(I32X16, [value] * 16)

    upper = const(-65536)
    bits = b.bitcast(x, I32X16)
    is_odd = b.and_(b.lshr(bits, const(16)), const(1))
    near = b.and_(b.add(bits, b.add(is_odd, const(0x7FFF))), upper)
    size = b.and_(near, const(0x7FFFFFFF))
    near = b.select(b.icmp_signed("<", size, const(LEAST_EXPONENT << 23)), const(0), near)
    quiet = b.and_(b.or_(bits, const(0x400000)), upper)
    return b.select(b.fcmp_unordered("uno", x, x), quiet, near)


@intrinsic
def round_bf16(ctx: Any, x: Any) -> Any:
    """16 values rounded to the nearest BF16, ties to even; what is below 2^-56 is zero."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.bitcast(_rounded_ir(b, args[0]), F32X16)

    return f32x16(f32x16), codegen


@intrinsic
def store_bf16(ctx: Any, address: Any, x: Any) -> Any:
    """Write what ``round_bf16`` makes of 16 values as 16 words."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        upper = b.lshr(_rounded_ir(b, args[1]), ir.Constant(I32X16, [16] * 16))
        narrow = b.trunc(upper, ir.VectorType(I16, 16))
        b.store(narrow, b.inttoptr(args[0], PTR)).align = 2
        return c.get_dummy_value()

    return types.void(types.int64, f32x16), codegen
