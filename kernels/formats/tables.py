"""4-bit codes that stand for values of a table: IQ4_NL, IQ4_XS, MXFP4 and NVFP4."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit

from slotmux.kernels.address import load_i32, load_u8
from slotmux.kernels.formats.base import const, unsigned_bytes
from slotmux.kernels.formats.k_quants import small_scales
from slotmux.kernels.formats.legacy import nibble, plain_scale
from slotmux.kernels.formats.planes import PlaneDecoder, plane_format
from slotmux.kernels.simd import F32X16, const_ir

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # doubled, as in ggml


def _shifted(values: tuple[int, ...], offset: int) -> tuple[int, ...]:
    return tuple(value + offset for value in values)


def _e8m0(b: Any, halves: Any, small: Any) -> tuple[list[Any], list[Any]]:
    """Half of 2^(e - 127), for doubled values; the two smallest are subnormal."""
    e = unsigned_bytes(b, *small[0])
    normal = b.shl(b.sub(e, const(1)), const(23))
    tiny = b.icmp_unsigned("<", e, const(2))
    bits = b.select(tiny, b.shl(const(0x200000), b.and_(e, const(1))), normal)
    return [b.bitcast(bits, F32X16)], []


def _ue4m3(b: Any, halves: Any, small: Any) -> tuple[list[Any], list[Any]]:
    """Half of an unsigned float of 4 exponent bits (bias 7) and 3 bits; 0x7f is zero."""
    scales = []
    for at in small:
        e = unsigned_bytes(b, *at)
        low = b.and_(e, const(0x7F))
        # Mantissa and exponent at a float32's places: its subnormals are e4m3's.
        value = b.fmul(b.bitcast(b.shl(low, const(20)), F32X16), const_ir(2.0**119))
        is_nan = b.icmp_unsigned("==", e, const(0x7F))
        scales.append(b.select(is_nan, ir.Constant(F32X16, None), value))
    return scales, []


@njit
def _iq4_nl(source, i):
    return nibble(source + 2, i)


@njit
def _iq4_xs(source, i):
    return nibble(source + 8 + i // 32 * 16, i % 32)


@njit
def _iq4_xs_scale(source, i):
    low = load_u8(source + 4 + i // 2) >> (i % 2 * 4) & 15
    high = load_i32(source) >> (16 + 2 * i) & 3
    return (low | high << 4) - 32


@njit
def _mxfp4(source, i):
    return nibble(source + 1, i)


@njit
def _mxfp4_scale(source, i):
    return load_u8(source)


@njit
def _nvfp4(source, i):
    """Each 16 inputs: low halves of 8 bytes, then their high halves."""
    byte = load_u8(source + 4 + i // 16 * 8 + i % 8)
    return byte & 15 if i % 16 < 8 else byte >> 4


@njit
def _nvfp4_scale(source, i):
    return load_u8(source + i)


_IQ4, _E2M1 = _shifted(IQ4, 128), _shifted(E2M1, 16)
FORMATS = (
    plane_format(
        "iq4_nl", 32, 18, PlaneDecoder((4,), 1, 0, 1, plain_scale, _IQ4), _iq4_nl,
        halves=(0,), offset=128,
    ),
    plane_format(
        "iq4_xs", 256, 136, PlaneDecoder((4,), 8, 1, 1, small_scales, _IQ4), _iq4_xs,
        small=_iq4_xs_scale, halves=(0,), offset=128,
    ),
    plane_format(
        "mxfp4", 32, 17, PlaneDecoder((4,), 1, 1, 0, _e8m0, _E2M1), _mxfp4,
        small=_mxfp4_scale, offset=16,
    ),
    plane_format(
        "nvfp4", 64, 36, PlaneDecoder((4,), 2, 2, 0, _ue4m3, _E2M1), _nvfp4,
        small=_nvfp4_scale, offset=16, n_parts=2,
    ),
)  # fmt: skip
