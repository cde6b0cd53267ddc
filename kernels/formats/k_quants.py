"""K-quants: 256 inputs to a block, float16 super-scales, small scales for 32 or 16 inputs.

Small scales take a byte each in the panel (4 and 6 bits in the file, but for Q6_K's bytes and
Q2_K's pairs of 4 bits, which stay pairs): 2 to 4 % more than the file for Q3_K, Q4_K and Q5_K.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from slotmux.kernels.address import load_u8
from slotmux.kernels.formats.base import const, unsigned_bytes
from slotmux.kernels.formats.planes import PlaneDecoder, plane_format, signed_byte
from slotmux.kernels.simd import F32X16

Scales = tuple[list[Any], list[Any]]


def small_scales(b: Any, halves: list[Any], small: Any) -> Scales:
    """Small signed scales times the super-scale (Q3_K, Q6_K)."""
    return [b.fmul(halves[0], signed_byte(b, s)) for s in small], []


def _scales_and_minima(b: Any, halves: list[Any], small: Any) -> Scales:
    """A scale and a minimum, each with its super-scale (Q4_K, Q5_K)."""
    d, d_min = halves
    scale, minimum = (signed_byte(b, s) for s in small)
    return [b.fmul(d, scale)], [b.fmul(b.fneg(d_min), minimum)]


def _pairs(b: Any, halves: list[Any], small: Any) -> Scales:
    """Bytes of a scale (low 4 bits) and a minimum, one for each half (Q2_K)."""
    d, d_min = halves[0], b.fneg(halves[1])
    both = [unsigned_bytes(b, *s) for s in small]
    scales = [b.fmul(d, b.uitofp(b.and_(x, const(15)), F32X16)) for x in both]
    return scales, [b.fmul(d_min, b.uitofp(b.lshr(x, const(4)), F32X16)) for x in both]


@njit(forceinline=True)
def two_bits(values, i):
    """Code i of 256: each 32 bytes hold 4 runs of 32 codes."""
    return (load_u8(values + i // 128 * 32 + i % 32) >> (i // 32 % 4 * 2)) & 3


@njit
def _q2_k(source, i):
    return two_bits(source + 16, i)


@njit
def _q2_k_scale(source, i):
    return load_u8(source + i)


@njit
def _q3_k(source, i):
    """2 low bits, and the top bit: value + 4."""
    return two_bits(source + 32, i) | ((load_u8(source + i % 32) >> (i // 32)) & 1) << 2


@njit
def _q3_k_scale(source, i):
    low = load_u8(source + 96 + i % 8) >> (i // 8 * 4) & 15
    high = load_u8(source + 104 + i % 4) >> (i // 4 * 2) & 3
    return (low | high << 4) - 32


@njit(forceinline=True)
def four_bits(values, i):
    """Code i of 256: each 32 bytes hold 2 runs of 32 codes."""
    return (load_u8(values + i // 64 * 32 + i % 32) >> (i // 32 % 2 * 4)) & 15


@njit
def _q4_k(source, i):
    return four_bits(source + 16, i)


@njit
def _q4_k_scale(source, i):
    """The 8 pairs of scale (even i) and minimum (odd i), 6 bits each in 12 bytes."""
    at, g = source + 4, i // 2
    shift = i % 2 * 4
    if g < 4:
        return load_u8(at + g + shift) & 63
    low = load_u8(at + g + 4) >> shift & 15
    return low | load_u8(at + g - 4 + shift) >> 6 << 4


@njit
def _q5_k(source, i):
    return four_bits(source + 48, i) | (load_u8(source + 16 + i % 32) >> (i // 32) & 1) << 4


@njit
def _q6_k(source, i):
    low = load_u8(source + i // 128 * 64 + i % 64) >> (i // 64 % 2 * 4) & 15
    return low | two_bits(source + 128, i) << 4


@njit
def _q6_k_scale(source, i):
    return load_u8(source + 192 + i)


FORMATS = (
    plane_format(
        "q2_k", 256, 84, PlaneDecoder((2,), 8, 2, 2, _pairs), _q2_k,
        small=_q2_k_scale, halves=(80, 82), has_minimum=True, n_parts=2,
    ),
    plane_format(
        "q3_k", 256, 110, PlaneDecoder((2, 1), 8, 2, 1, small_scales), _q3_k,
        small=_q3_k_scale, halves=(108,), offset=4, n_parts=2,
    ),
    plane_format(
        "q4_k", 256, 144, PlaneDecoder((4,), 8, 2, 2, _scales_and_minima), _q4_k,
        small=_q4_k_scale, halves=(0, 2), has_minimum=True,
    ),
    plane_format(
        "q5_k", 256, 176, PlaneDecoder((4, 1), 8, 2, 2, _scales_and_minima), _q5_k,
        small=_q4_k_scale, halves=(0, 2), has_minimum=True,
    ),
    plane_format(
        "q6_k", 256, 210, PlaneDecoder((4, 2), 8, 2, 1, small_scales), _q6_k,
        small=_q6_k_scale, halves=(208,), offset=32, n_parts=2,
    ),
)  # fmt: skip
