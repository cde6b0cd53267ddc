"""Vectors of 16 float32 as values in Numba code: arithmetic, loads, stores, exp.

LLVM splits them where registers are narrower, so one source serves AVX-512, AVX2 and others, with
the same bits. No operation here is reassociated or contracted: what is written is what runs.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from slotmux.kernels.address import F32, I32, PTR

LANES = 16
F32X16 = ir.VectorType(F32, LANES)
I32X16 = ir.VectorType(I32, LANES)


class Vector(types.Type):
    """16 float32 values."""

    def __init__(self) -> None:
        super().__init__(name="f32x16")


f32x16 = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, F32X16)


def splat_ir(b: Any, scalar: Any, vector_type: Any) -> Any:
    """All lanes of ``vector_type`` set to ``scalar``."""
    undefined = ir.Constant(vector_type, ir.Undefined)
    one = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    mask = ir.Constant(ir.VectorType(I32, vector_type.count), None)
    return b.shuffle_vector(one, undefined, mask)


def const_ir(value: float, vector_type: Any = F32X16) -> Any:
    """A constant in all lanes."""
    return ir.Constant(vector_type, [value] * vector_type.count)


def fma_ir(b: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    fn = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(F32X16, [F32X16] * 3), "llvm.fma.v16f32"
    )
    return b.call(fn, [x, y, z])


def unary_ir(b: Any, name: str, x: Any) -> Any:
    """An LLVM intrinsic of one vector argument."""
    fn = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(F32X16, [F32X16]), f"llvm.{name}.v16f32"
    )
    return b.call(fn, [x])


class _VectorOp(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and args[0] == f32x16 and args[1] == f32x16:
            return signature(f32x16, *args)
        return None


def _define_operator(op: Any, method: str) -> None:
    infer_global(op)(type(f"_Vector_{op.__name__}", (_VectorOp,), {}))

    @lower_builtin(op, f32x16, f32x16)
    def lower(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return getattr(b, method)(*args)


for _op, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_op, _method)


@intrinsic
def splat(ctx: Any, x: Any) -> Any:
    """All lanes set to a float32."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return splat_ir(b, args[0], F32X16)

    return f32x16(types.float32), codegen


@intrinsic
def load(ctx: Any, address: Any) -> Any:
    """16 float32 from an address of any alignment."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        value = b.load(b.inttoptr(args[0], PTR), typ=F32X16)
        value.align = 4
        return value

    return f32x16(types.int64), codegen


@intrinsic
def store(ctx: Any, address: Any, x: Any) -> Any:
    """Write 16 float32."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        b.store(args[1], b.inttoptr(args[0], PTR)).align = 4
        return c.get_dummy_value()

    return types.void(types.int64, f32x16), codegen


@intrinsic
def fma(ctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return fma_ir(b, *args)

    return f32x16(f32x16, f32x16, f32x16), codegen


def _unary(name: str) -> Any:
    @intrinsic
    def op(ctx: Any, x: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return unary_ir(b, name, args[0])

        return f32x16(f32x16), codegen

    return op


absolute = _unary("fabs")
round_even = _unary("rint")


def _select_by(compare: str) -> Any:
    @intrinsic
    def op(ctx: Any, x: Any, y: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return b.select(b.fcmp_ordered(compare, args[0], args[1]), args[0], args[1])

        return f32x16(f32x16, f32x16), codegen

    return op


# A NaN in x gives y, as x86's minps and maxps do.
maximum = _select_by(">")
minimum = _select_by("<")


@intrinsic
def first_lanes(ctx: Any, x: Any, n: Any, other: Any) -> Any:
    """Lanes below ``n`` of x, the others of ``other``."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        x, n, other = args
        lane = ir.Constant(I32X16, list(range(LANES)))
        below = b.icmp_signed("<", lane, splat_ir(b, b.trunc(n, I32), I32X16))
        return b.select(below, x, other)

    return f32x16(f32x16, types.int64, f32x16), codegen


@intrinsic
def first(ctx: Any, x: Any) -> Any:
    """Lane 0."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.extract_element(args[0], ir.Constant(I32, 0))

    return types.float32(f32x16), codegen


@intrinsic
def where_less(ctx: Any, x: Any, y: Any, a: Any, d: Any) -> Any:
    """Per lane: a where x < y, else d."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        x, y, a, d = args
        return b.select(b.fcmp_ordered("<", x, y), a, d)

    return f32x16(f32x16, f32x16, f32x16, f32x16), codegen


def _halves(b: Any, v: Any, n: int) -> tuple[Any, Any]:
    undefined = ir.Constant(v.type, ir.Undefined)
    index = ir.VectorType(I32, n)
    low = b.shuffle_vector(v, undefined, ir.Constant(index, list(range(n))))
    high = b.shuffle_vector(v, undefined, ir.Constant(index, list(range(n, 2 * n))))
    return low, high


def _fold(combine: Any) -> Any:
    @intrinsic
    def op(ctx: Any, x: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            v, n = args[0], LANES
            while n > 1:
                n //= 2
                v = combine(b, *_halves(b, v, n))
            return b.extract_element(v, ir.Constant(I32, 0))

        return types.float32(f32x16), codegen

    return op


# Halves are folded onto each other: the order is fixed.
sum_lanes = _fold(lambda b, x, y: b.fadd(x, y))
max_lanes = _fold(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@intrinsic
def _scale_by_power(ctx: Any, x: Any, n: Any) -> Any:
    """x * 2**n for a vector n of whole numbers, by adding to the exponent in two steps."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        x, n = args
        whole = b.fptosi(n, I32X16)
        half = b.ashr(whole, ir.Constant(I32X16, [1] * LANES))
        for part in (half, b.sub(whole, half)):
            bits = b.shl(b.add(part, ir.Constant(I32X16, [127] * LANES)), const_ir(23, I32X16))
            x = b.fmul(x, b.bitcast(bits, F32X16))
        return x

    return f32x16(f32x16, f32x16), codegen


@njit(forceinline=True)
def exp(x):
    """e**x per lane; 0 below -104, inf above 89; NaN stays NaN.

    Cody-Waite reduction by ln 2 and a degree-6 polynomial (Cephes expf); largest error 1.25 ulp.
    """
    # Constants first: a NaN must come through (see maximum).
    x = minimum(splat(np.float32(89.0)), maximum(splat(np.float32(-104.0)), x))
    n = round_even(x * splat(np.float32(1.44269504088896341)))
    r = fma(n, splat(np.float32(-0.693359375)), x)
    r = fma(n, splat(np.float32(2.12194440e-4)), r)
    p = splat(np.float32(1.9875691500e-4))
    p = fma(p, r, splat(np.float32(1.3981999507e-3)))
    p = fma(p, r, splat(np.float32(8.3334519073e-3)))
    p = fma(p, r, splat(np.float32(4.1665795894e-2)))
    p = fma(p, r, splat(np.float32(1.6666665459e-1)))
    p = fma(p, r, splat(np.float32(5.0000001201e-1)))
    p = fma(p, r * r, r + splat(np.float32(1.0)))
    return _scale_by_power(p, n)


@njit(forceinline=True)
def log1p_unit(x):
    """log(1 + x) per lane for 0 <= x <= 1; largest error 2 ulp.

    Above sqrt(2) - 1 as ln 2 + log(1 + (x - 1) / 2); then the polynomial of Cephes logf.
    """
    one, none = splat(np.float32(1.0)), splat(np.float32(0.0))
    bound = splat(np.float32(0.41421356))
    f = where_less(bound, x, (x - one) * splat(np.float32(0.5)), x)
    p = splat(np.float32(7.0376836292e-2))
    p = fma(p, f, splat(np.float32(-1.1514610310e-1)))
    p = fma(p, f, splat(np.float32(1.1676998740e-1)))
    p = fma(p, f, splat(np.float32(-1.2420140846e-1)))
    p = fma(p, f, splat(np.float32(1.4249322787e-1)))
    p = fma(p, f, splat(np.float32(-1.6668057665e-1)))
    p = fma(p, f, splat(np.float32(2.0000714765e-1)))
    p = fma(p, f, splat(np.float32(-2.4999993993e-1)))
    p = fma(p, f, splat(np.float32(3.3333331174e-1)))
    square = f * f
    # ln 2 in two parts, the first exact in few bits.
    p = p * (f * square) + where_less(bound, x, splat(np.float32(-2.12194440e-4)), none)
    p = fma(square, splat(np.float32(-0.5)), p) + f
    return p + where_less(bound, x, splat(np.float32(0.693359375)), none)


@njit(forceinline=True)
def softplus(x):
    """log(1 + e**x) per lane, without overflow; x itself from about 17 on; NaN stays NaN."""
    zero = splat(np.float32(0.0))
    return maximum(zero, x) + log1p_unit(exp(zero - absolute(x)))
