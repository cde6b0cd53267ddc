"""Exponential, logarithm, sine and cosine of a float64: the same bits on every machine.

A C library's differ in the last bit from version to version and from CPU to CPU. These are made of
operations that IEEE 754 rounds in one way only, in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import F64, I64

_LN2 = Decimal(2).ln()
_LN2_HIGH = int(_LN2 * 2**32) / 2**32  # times an exponent it is exact
_LN2_LOW = float(_LN2 - Decimal(_LN2_HIGH))
_INVERSE_LN2 = 1.4426950408889634
_TWO_OVER_PI = 0.6366197723675814
_HALF_PI, _HALF_PI_REST = 1.5707963267948966, 6.123233995736766e-17
_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD  # of sqrt(1/2)
_LEAST_NORMAL = 2.2250738585072014e-308


def _call(b: Any, name: str, *args: Any) -> Any:
    kind = ir.FunctionType(F64, [F64] * len(args))
    return b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}.f64"), args)


@intrinsic
def fma64(ctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return _call(b, "fma", *args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def _nearest(ctx: Any, x: Any) -> Any:
    """The nearest whole number, ties to even."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return _call(b, "rint", *args)

    return types.float64(types.float64), codegen


@intrinsic
def _bits(ctx: Any, x: Any) -> Any:
    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.bitcast(args[0], I64)

    return types.int64(types.float64), codegen


@intrinsic
def _from_bits(ctx: Any, x: Any) -> Any:
    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.bitcast(args[0], F64)

    return types.float64(types.int64), codegen


def _polynomial(coefficients: Sequence[float]) -> Any:
    """An intrinsic: the sum of coefficients[i] * z**i by Horner's rule."""

    @intrinsic
    def value(ctx: Any, z: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            total = ir.Constant(F64, coefficients[-1])
            for coefficient in reversed(coefficients[:-1]):
                total = _call(b, "fma", total, args[0], ir.Constant(F64, coefficient))
            return total

        return types.float64(types.float64), codegen

    return value


# Taylor's series, as long as terms are above 2^-56 of the sum: of (atanh(s) / s - 1) / s^2 for
# s^2 < 0.0295, of (sin(x) / x - 1) / x^2 and cos(x) for |x| <= pi / 4, of (exp(x) - 1 - x) / x^2
# for |x| <= log(2) / 2.
_atanh_terms = _polynomial([1.0 / n for n in range(3, 25, 2)])
_sin_terms = _polynomial([(-1) ** (n // 2) / math.factorial(n) for n in range(3, 19, 2)])
_exp_terms = _polynomial([1.0 / math.factorial(n) for n in range(2, 16)])
_cos_terms = _polynomial([(-1) ** (n // 2) / math.factorial(n) for n in range(0, 20, 2)])


@njit
def log(x):
    """The natural logarithm, largest error 1 ulp; -inf of 0, NaN of what is negative."""
    if not (x > 0.0 and x < np.inf):
        return np.float64(-np.inf) if x == 0.0 else x if x > 0.0 else np.float64(np.nan)
    exponent = np.int64(0)
    if x < _LEAST_NORMAL:
        x, exponent = x * 2.0**54, np.int64(-54)
    # x = 2^exponent * m with m from sqrt(1/2) to sqrt(2); log(m) = 2 atanh((m - 1) / (m + 1))
    up = (_bits(x) - _ROOT_HALF_BITS) >> 52
    f = _from_bits(_bits(x) - (up << 52)) - 1.0
    n = np.float64(exponent + up)
    s = f / (2.0 + f)
    z = s * s
    # f - s f is 2 s, but f is exact: s and what it is rounded by count little then.
    rest = 2.0 * (s * z) * _atanh_terms(z) - s * f
    return fma64(n, _LN2_HIGH, f + fma64(n, _LN2_LOW, rest))


@njit
def exp(x):
    """e to the power of x, largest error 1 ulp; 0 below 2^-1022, inf from 2^1024 on."""
    if not (x > -708.0 and x < 709.0):
        return np.float64(np.inf) if x > 0.0 else np.float64(0.0) if x < 0.0 else x
    n = _nearest(x * _INVERSE_LN2)
    high = fma64(-n, _LN2_HIGH, x)  # exact
    r = fma64(-n, _LN2_LOW, high)
    lost = fma64(-n, _LN2_LOW, high - r)  # by rounding r
    value = 1.0 + (r + fma64(r * r, _exp_terms(r), lost))
    return value * _from_bits((np.int64(n) + 1023) << 52)


@njit
def cos_sin(x):
    """Cosine and sine of an angle below 2^31 in size, largest error 1.5 ulp or 2^-80."""
    n = _nearest(x * _TWO_OVER_PI)
    r = fma64(-n, _HALF_PI_REST, fma64(-n, _HALF_PI, x))  # the inner one is exact
    z = r * r
    c, s = _cos_terms(z), fma64(r * z, _sin_terms(z), r)
    quarter = np.int64(n) & 3
    if quarter & 1:
        c, s = s, c
    if quarter == 1 or quarter == 2:
        c = -c
    if quarter >= 2:
        s = -s
    return c, s
