"""Sums of 4 byte products per lane, for each instruction set: the core of every quantised product.

``dot4(b, isa, acc, codes, acts)`` adds to each of 16 int32 lanes the products of 4 unsigned codes
(0..255) and 4 signed activations (-127..127). All paths give the same integers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from slotmux.kernels.address import I8, I16, I32
from slotmux.kernels.cpu import Isa
from slotmux.kernels.simd import I32X16

I8X64 = ir.VectorType(I8, 64)
I8X32 = ir.VectorType(I8, 32)
I16X16 = ir.VectorType(I16, 16)
I16X32 = ir.VectorType(I16, 32)
I32X8 = ir.VectorType(I32, 8)


def _function(b: Any, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(result, arguments), name)


def _half(b: Any, v: Any, half: int) -> Any:
    n = v.type.count // 2
    index = ir.Constant(ir.VectorType(I32, n), list(range(half * n, half * n + n)))
    return b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), index)


def _join(b: Any, low: Any, high: Any) -> Any:
    n = low.type.count * 2
    return b.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, n), list(range(n))))


def _avx512vnni(b: Any, acc: Any, codes: Any, acts: Any) -> Any:
    name = "llvm.x86.avx512.vpdpbusd.512"
    return b.call(_function(b, name, I32X16, I32X16, I8X64, I8X64), [acc, codes, acts])


def by_halves(step: Any) -> Any:
    """An operation on 512-bit vectors from one on 256 bits."""

    def both(b: Any, *vectors: Any) -> Any:
        return _join(b, *(step(b, *(_half(b, v, h) for v in vectors)) for h in (0, 1)))

    return both


def _avxvnni_half(b: Any, acc: Any, codes: Any, acts: Any) -> Any:
    name = "llvm.x86.avx512.vpdpbusd.256"
    return b.call(_function(b, name, I32X8, I32X8, I8X32, I8X32), [acc, codes, acts])


def _avx2_half(b: Any, acc: Any, codes: Any, acts: Any) -> Any:
    """vpmaddubsw saturates at 16 bits, so codes are split: 7 low bits, and the top bit apart."""
    maddubs = _function(b, "llvm.x86.avx2.pmadd.ub.sw", I16X16, I8X32, I8X32)
    maddwd = _function(b, "llvm.x86.avx2.pmadd.wd", I32X8, I16X16, I16X16)
    ones = ir.Constant(I16X16, [1] * 16)
    low = b.and_(codes, ir.Constant(I8X32, [127] * 32))
    top = b.lshr(codes, ir.Constant(I8X32, [7] * 32))
    sums = b.call(maddwd, [b.call(maddubs, [low, acts]), ones])
    tops = b.call(maddwd, [b.call(maddubs, [top, acts]), ir.Constant(I16X16, [128] * 16)])
    return b.add(b.add(acc, sums), tops)


def _avx2_half_small(b: Any, acc: Any, codes: Any, acts: Any) -> Any:
    """The same for codes below 128."""
    maddubs = _function(b, "llvm.x86.avx2.pmadd.ub.sw", I16X16, I8X32, I8X32)
    maddwd = _function(b, "llvm.x86.avx2.pmadd.wd", I32X8, I16X16, I16X16)
    pairs = b.call(maddubs, [codes, acts])
    return b.add(acc, b.call(maddwd, [pairs, ir.Constant(I16X16, [1] * 16)]))


def _portable(b: Any, acc: Any, codes: Any, acts: Any) -> Any:
    codes, acts = b.bitcast(codes, I32X16), b.bitcast(acts, I32X16)
    for i in range(4):
        left = ir.Constant(I32X16, [24 - 8 * i] * 16)
        right = ir.Constant(I32X16, [24] * 16)
        code = b.lshr(b.shl(codes, left), right)
        act = b.ashr(b.shl(acts, left), right)
        acc = b.add(acc, b.mul(code, act))
    return acc


def dot4(b: Any, isa: Isa, acc: Any, codes: Any, acts: Any, *, small: bool) -> Any:
    """acc + sum of 4 products per lane; ``small`` promises codes below 128."""
    if isa.is_avx512:
        return _avx512vnni(b, acc, codes, acts)
    if isa is Isa.AVX_VNNI:
        return by_halves(_avxvnni_half)(b, acc, codes, acts)
    if isa is Isa.AVX2:
        return by_halves(_avx2_half_small if small else _avx2_half)(b, acc, codes, acts)
    return _portable(b, acc, codes, acts)
