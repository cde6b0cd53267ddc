"""F32, F16 and BF16: panels of the file's own values (BF16: what is below 2^-56 as zero)."""

from __future__ import annotations

from typing import Any

from numba import njit

from slotmux.kernels.address import load_i32, load_u16, store_i16, store_i32
from slotmux.kernels.bf16 import LEAST_EXPONENT
from slotmux.kernels.formats.base import Format, const, half_vector, load_vector
from slotmux.kernels.simd import F32X16, I32X16


def float_vectors(b: Any, f: Format, at: Any) -> list[Any]:
    """The 16 weights of each input of a float panel's block, as float32."""
    if f.name == "f32":
        return [load_vector(b, at, 0, F32X16)]
    if f.name == "f16":
        return [half_vector(b, at, 0)]
    both = load_vector(b, at, 0, I32X16)
    halves = [b.shl(both, const(16)), b.and_(both, const(-65536))]
    return [b.bitcast(half, F32X16) for half in halves]


@njit
def _pack_32(source, block, row):
    store_i32(block + 4 * row, load_i32(source))


@njit
def _pack_16(source, block, row):
    store_i16(block + 2 * row, load_u16(source))


@njit
def _not_tiny(word):
    return word if word & 0x7F80 >= LEAST_EXPONENT << 7 else 0


@njit
def _pack_pair(source, block, row):
    store_i32(block + 4 * row, _not_tiny(load_u16(source)) | _not_tiny(load_u16(source + 2)) << 16)


# BF16 has two inputs a block: 16 words of both, the earlier one in the low half, as vdpbf16ps
# takes them. Other paths get at each with one instruction, as they do with one input a block.
FORMATS = (
    Format("f32", 1, 4, 1, 64, bits=0, pack=_pack_32),
    Format("f16", 1, 2, 1, 32, bits=0, pack=_pack_16),
    Format("bf16", 1, 2, 2, 64, bits=0, pack=_pack_pair),
)
