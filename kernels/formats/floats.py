"""F32, F16 and BF16: panels of the file's own values."""

from __future__ import annotations

from typing import Any

from numba import njit

from kernels.address import load_i32, load_u16, store_i16, store_i32
from kernels.formats.base import I16X16, Format, const, half_vector, load_vector
from kernels.simd import F32X16, I32X16


def float_vector(b: Any, f: Format, at: Any) -> Any:
    """The 16 weights of one input of a float panel, as float32."""
    if f.name == "f32":
        return load_vector(b, at, 0, F32X16)
    if f.name == "f16":
        return half_vector(b, at, 0)
    bits = b.zext(load_vector(b, at, 0, I16X16), I32X16)
    return b.bitcast(b.shl(bits, const(16)), F32X16)


@njit
def _pack_32(source, block, row):
    store_i32(block + 4 * row, load_i32(source))


@njit
def _pack_16(source, block, row):
    store_i16(block + 2 * row, load_u16(source))


FORMATS = (
    Format("f32", 1, 4, 1, 64, bits=0, pack=_pack_32),
    Format("f16", 1, 2, 1, 32, bits=0, pack=_pack_16),
    Format("bf16", 1, 2, 1, 32, bits=0, pack=_pack_16),
)
