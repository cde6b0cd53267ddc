"""Ternary weights: TQ2_0 (2 bits) and TQ1_0 (5 weights to a byte, as in the file).

Trits come out of tables of 256 where the CPU can permute bytes of registers. TQ1_0 on one Zen 5
core, multiplied out -> looked up, GB/s: one row 13.8 -> 18.7, 8 rows 5.7 -> 6.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import njit

from slotmux.kernels.address import I16, I64, load_u8, load_u16, store_i8, store_i16
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X64, I16X32
from slotmux.kernels.formats.base import Decoder, Format, SubBlock, const, half_vector, load_vector
from slotmux.kernels.formats.k_quants import two_bits
from slotmux.kernels.formats.legacy import plain_scale
from slotmux.kernels.formats.permute import look_up, table_address
from slotmux.kernels.formats.planes import PlaneDecoder, bit_field, plane_format
from slotmux.kernels.simd import splat_ir

_VECTORS = 13  # 5 groups of 4 inputs each: 64 groups and a place to spare
_POWERS = 1 | 3 << 8 | 9 << 16 | 27 << 24 | 81 << 32  # 3^i in byte i


@njit
def _tq2_0(source, i):
    return two_bits(source, i)


def _first_trit(b: Any, fractions: Any) -> Any:
    """The first trit of every byte, which is a fraction of 256 in base 3."""
    over = (b.icmp_unsigned(">", fractions, const(n, I8X64)) for n in (85, 170))
    return b.add(*(b.zext(mask, I8X64) for mask in over))


def _next(b: Any, fractions: Any) -> Any:
    """Every byte times 3, less the whole: begins with the next trit."""
    return b.add(b.add(fractions, fractions), fractions)


def _times(b: Any, fractions: Any, power: Any) -> Any:
    """Every byte times the power of 3 in 16 bits of a lane, less the whole."""
    wide, low = b.bitcast(fractions, I16X32), const(255, I16X32)
    even = b.and_(b.mul(wide, power), low)
    odd = b.mul(b.and_(wide, const(0xFF00, I16X32)), power)
    return b.bitcast(b.or_(even, odd), I8X64)


def _trit_of(byte: int, i: int) -> int:
    return byte * 3**i % 256 * 3 >> 8


# Of every byte: its trits 1 to 4, two bits each, then trit 0, then trit 1 and so on.
_QUADS = [sum(_trit_of(byte, i) << (2 * i - 2) for i in range(1, 5)) for byte in range(256)]
_TABLES = _QUADS + [_trit_of(byte, i) for i in range(5) for byte in range(256)]


def _looked_up(b: Any, table: Any, fractions: Any) -> Any:
    """Bytes of a table of 256."""
    is_upper = b.icmp_signed("<", fractions, ir.Constant(I8X64, None))
    return look_up(b, table, 0, 256, fractions, [is_upper])


def _own_trits(b: Any, isa: Isa, fractions: Any) -> Iterator[Any]:
    """All 5 trits of every byte."""
    if not isa.has_vbmi:
        for _ in range(5):
            yield _first_trit(b, fractions)
            fractions = _next(b, fractions)
        return
    table = table_address(b, "trits", _TABLES)
    yield _looked_up(b, b.add(table, ir.Constant(I64, 256)), fractions)
    quads = _looked_up(b, table, fractions)
    for i in range(4):
        yield bit_field(b, quads, 2, i, 0)


def _shared_trit(b: Any, isa: Isa, fractions: Any, i: Any) -> Any:
    """Trit i (an LLVM value) of every byte."""
    if isa.has_vbmi:
        place = b.add(b.shl(i, ir.Constant(I64, 8)), ir.Constant(I64, 256))
        return _looked_up(b, b.add(table_address(b, "trits", _TABLES), place), fractions)
    shift = b.shl(i, ir.Constant(I64, 3))
    power = b.and_(b.lshr(ir.Constant(I64, _POWERS), shift), ir.Constant(I64, 255))
    return _first_trit(b, _times(b, fractions, splat_ir(b, b.trunc(power, I16), I16X32)))


@dataclass(frozen=True, slots=True)
class _TernaryDecoder(Decoder):
    """Sub-block s has its groups 0 to 4 in vector s. The groups 5 to 7 of all stand in a row in
    vectors 8 to 12, 5 to a vector. After the vectors come the scales."""

    def head(self, b: Any, block: Any) -> Any:
        """The scale."""
        return [half_vector(b, block, 64 * _VECTORS)]

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """See Decoder."""

        def codes() -> Iterator[Any]:
            own = load_vector(b, block, b.mul(index, ir.Constant(I64, 64)), I8X64)
            yield from _own_trits(b, isa, own)
            for j in range(3):
                place = b.add(b.mul(index, ir.Constant(I64, 3)), ir.Constant(I64, j))
                five = ir.Constant(I64, 5)
                vector = b.add(b.udiv(place, five), ir.Constant(I64, 8))
                shared = load_vector(b, block, b.mul(vector, ir.Constant(I64, 64)), I8X64)
                yield _shared_trit(b, isa, shared, b.urem(place, five))

        return SubBlock(codes(), lambda: (head, []))


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
