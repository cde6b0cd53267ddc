"""Ternary weights: TQ2_0 (2 bits) and TQ1_0 (5 weights to a byte, as in the file)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import njit

from kernels.address import I16, I64, load_u8, load_u16, store_i8, store_i16
from kernels.cpu import Isa
from kernels.dot import I8X64, I16X32
from kernels.formats.base import Decoder, Format, SubBlock, const, half_vector, load_vector
from kernels.formats.k_quants import two_bits
from kernels.formats.legacy import plain_scale
from kernels.formats.planes import PlaneDecoder, plane_format
from kernels.simd import splat_ir

_VECTORS = 13  # 5 groups of 4 inputs each: 64 groups and a place to spare
_POWERS = 1 | 3 << 8 | 9 << 16 | 27 << 24 | 81 << 32  # 3^i in byte i


@njit
def _tq2_0(source, i):
    return two_bits(source, i)


def _trits(b: Any, both: Any, power: Any) -> Any:
    """Trit i of every byte, for power = 3^i: a byte is a fraction of 256 in base 3, so that
    times 3^i, less the whole, times 3 begins with it. Even and odd bytes apart, in 16 bits."""
    wide, low = b.bitcast(both, I16X32), const(255, I16X32)
    three = const(3, I16X32)
    even = b.and_(b.mul(b.and_(wide, low), power), low)
    odd = b.and_(b.mul(b.lshr(wide, const(8, I16X32)), power), low)
    even = b.lshr(b.mul(even, three), const(8, I16X32))
    odd = b.and_(b.mul(odd, three), const(0x300, I16X32))
    return b.bitcast(b.or_(even, odd), I8X64)


@dataclass(frozen=True, slots=True)
class _TernaryDecoder(Decoder):
    """Sub-block s has its groups 0 to 4 in vector s. The groups 5 to 7 of all stand in a row in
    vectors 8 to 12, 5 to a vector. After the vectors come the scales."""

    def head(self, b: Any, block: Any) -> Any:
        """The scale."""
        return half_vector(b, block, 64 * _VECTORS)

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """See Decoder."""

        def codes() -> Iterator[Any]:
            own = load_vector(b, block, b.mul(index, ir.Constant(I64, 64)), I8X64)
            for j in range(5):
                yield _trits(b, own, const(3**j, I16X32))
            for j in range(3):
                place = b.add(b.mul(index, ir.Constant(I64, 3)), ir.Constant(I64, j))
                five, eight = ir.Constant(I64, 5), ir.Constant(I64, 8)
                vector = b.add(b.udiv(place, five), eight)
                shift = b.mul(b.urem(place, five), eight)
                power = b.and_(b.lshr(ir.Constant(I64, _POWERS), shift), ir.Constant(I64, 255))
                shared = load_vector(b, block, b.mul(vector, ir.Constant(I64, 64)), I8X64)
                yield _trits(b, shared, splat_ir(b, b.trunc(power, I16), I16X32))

        return SubBlock(codes(), lambda: ([head], []))


@njit
def _trit(byte, i):
    for _ in range(i):
        byte = byte * 3 & 255
    return byte * 3 >> 8


@njit
def _tq1_0(source, i):
    """Trit of input i: 5 runs of 32 in 32 bytes, 5 runs of 16 in 16, 4 runs of 4 in 4."""
    if i < 160:
        return _trit(load_u8(source + i % 32), i // 32)
    if i < 240:
        return _trit(load_u8(source + 32 + (i - 160) % 16), (i - 160) // 16)
    return _trit(load_u8(source + 48 + (i - 240) % 4), (i - 240) // 4)


@njit
def _byte_of(source, first, step, n, i):
    """The file's way of packing: trits as a base-3 fraction of 256, rounded up."""
    value = 0
    for k in range(5):
        group = first + k if step == 0 else 8 * ((first + k) // 3) + 5 + (first + k) % 3
        value = value * 3 + (_tq1_0(source, 4 * group + i) if k < n else 0)
    return (value * 256 + 242) // 243


@njit
def _pack_tq1_0(source, block, row):
    for i in range(4):
        for s in range(8):
            store_i8(block + 64 * s + 4 * row + i, _byte_of(source, 8 * s, 0, 5, i))
        for v in range(5):
            value = _byte_of(source, 5 * v, 1, min(5, 24 - 5 * v), i)
            store_i8(block + 64 * (8 + v) + 4 * row + i, value)
    store_i16(block + 64 * _VECTORS + 2 * row, load_u16(source + 52))


FORMATS = (
    plane_format(
        "tq2_0", 256, 66, PlaneDecoder((2,), 8, 0, 1, plain_scale), _tq2_0,
        halves=(64,), offset=1,
    ),
    Format(
        "tq1_0", 256, 54, 256, 64 * _VECTORS + 32, bits=2, offset=1, max_code=2,
        decoder=_TernaryDecoder(), pack=_pack_tq1_0,
    ),
)  # fmt: skip
