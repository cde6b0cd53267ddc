"""BF16 vectors: 32 values, two to each of 16 lanes. Only for Isa.AVX512_BF16."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import PTR
from slotmux.kernels.simd import F32X16, f32x16


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BF16X16, BF16X32 = ir.VectorType(_BFloat(), 16), ir.VectorType(_BFloat(), 32)


def dot2(b: Any, acc: Any, x: Any, y: Any) -> Any:
    """acc plus the two products of each lane, the first one's sum rounded before the second's."""
    kind = ir.FunctionType(F32X16, [F32X16, BF16X32, BF16X32])
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), [acc, x, y])


@intrinsic
def store_bf16(ctx: Any, address: Any, x: Any) -> Any:
    """Write 16 values rounded to the nearest BF16, ties to even."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(BF16X16, [F32X16])
        name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
        narrow = b.call(cgutils.get_or_insert_function(b.module, kind, name), [args[1]])
        b.store(narrow, b.inttoptr(args[0], PTR)).align = 2
        return c.get_dummy_value()

    return types.void(types.int64, f32x16), codegen
