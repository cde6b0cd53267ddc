"""Codes in bit planes, the way most formats are stored.

A sub-block's codes (8 groups of 4 inputs x 16 rows) are cut into fields, low bits first, for
example 5 bits into 4 and 1. A plane holds one field of all groups: byte (4 * row + input) of its
64-byte vectors has 8 / width groups in it, from the low bits up. So a 4-bit plane has 4 vectors,
a 1-bit plane has one, and nothing is lost to padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import njit

from slotmux.kernels.address import I64, load_u8, load_u16, store_i8, store_i16
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X64, I16X32
from slotmux.kernels.formats.base import (
    I8X16,
    QUANT_BLOCK,
    Decoder,
    Format,
    SubBlock,
    const,
    half_vector,
    load_vector,
)
from slotmux.kernels.formats.table import look_up
from slotmux.kernels.simd import F32X16, I32X16


def bit_field(b: Any, both: Any, width: int, place: int, target: int) -> Any:
    """Field ``place`` of every byte, moved to bit ``target`` of the byte."""
    if width == 8:
        return both
    shift = target - width * place
    if shift:
        wide = b.bitcast(both, I16X32)
        move = b.shl if shift > 0 else b.lshr
        both = b.bitcast(move(wide, const(abs(shift), I16X32)), I8X64)
    return b.and_(both, const(((1 << width) - 1) << target, I8X64))


def plane_codes(b: Any, sub: Any, planes: tuple[int, ...]) -> Iterator[Any]:
    """The 8 code vectors of a sub-block, each loaded when it is needed."""
    loaded: list[Any] = [None] * len(planes)
    for j in range(8):
        code, start, target = None, 0, 0
        for p, width in enumerate(planes):
            n = 8 // width  # groups to a vector
            if j % n == 0:
                loaded[p] = load_vector(b, sub, start + 64 * (j // n), I8X64)
            field = bit_field(b, loaded[p], width, j % n, target)
            code = field if code is None else b.or_(code, field)
            start += 64 * width
            target += width
        yield code


@dataclass(frozen=True, slots=True)
class PlaneDecoder(Decoder):
    """Blocks of ``n_halves`` float16 (16 rows each), then sub-block after sub-block its code planes
    and ``n_bytes`` small scales (16 rows each). ``scale(b, halves, bytes)`` makes of them what
    SubBlock.scales returns. ``table``: codes are indices into it (already unsigned).

    All is read in the order in which it stands, so that memory sees one stream. With the small
    scales behind the codes of all sub-blocks, hardware prefetchers lost their way: one row from
    memory on two Zen 5 cores, Q4_K 31 -> 35 GB/s, Q6_K 34 -> 39, IQ4_XS 30 -> 34, Q2_K 31 -> 36.
    """

    planes: tuple[int, ...]
    n_sub_blocks: int
    n_bytes: int
    n_halves: int
    scale: Any
    table: tuple[int, ...] | None = None

    @property
    def code_bytes(self) -> int:
        """Of a sub-block."""
        return 64 * sum(self.planes)

    @property
    def subs_at(self) -> int:
        """Where the sub-blocks begin."""
        return 32 * self.n_halves

    @property
    def sub_bytes(self) -> int:
        """Of a sub-block."""
        return self.code_bytes + 16 * self.n_bytes

    @property
    def block_bytes(self) -> int:
        """Of a block."""
        return self.subs_at + self.n_sub_blocks * self.sub_bytes

    def _halves(self, b: Any, block: Any) -> list[Any]:
        return [half_vector(b, block, 32 * i) for i in range(self.n_halves)]

    def head(self, b: Any, block: Any) -> Any:
        """The float16, widened; where there is one sub-block they are loaded with its scales."""
        return None if self.n_sub_blocks == 1 else self._halves(b, block)

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """See Decoder."""
        start = b.add(block, ir.Constant(I64, self.subs_at))
        sub = b.add(start, b.mul(index, ir.Constant(I64, self.sub_bytes)))

        def codes() -> Iterator[Any]:
            for code in plane_codes(b, sub, self.planes):
                yield look_up(b, isa, self.table, code) if self.table else code

        def scales() -> tuple[list[Any], list[Any]]:
            small = [(sub, self.code_bytes + 16 * i) for i in range(self.n_bytes)]
            halves = self._halves(b, block) if head is None else head
            return self.scale(b, halves, small)

        return SubBlock(codes(), scales)


def _code_packer(planes: tuple[int, ...]) -> Any:
    """A Numba function that puts a code of input i into a zeroed sub-block."""
    low = planes[0]
    high = planes[1] if len(planes) > 1 else 0
    low_bytes, low_mask = 64 * low, (1 << low) - 1

    @njit
    def put(sub, row, i, code):
        at = sub + 4 * row + i % 4
        j = i // 4
        if low == 8:
            store_i8(at + 64 * j, code)
            return
        byte = at + 64 * (j * low // 8)
        store_i8(byte, load_u8(byte) | ((code & low_mask) << (j * low % 8)))
        if high:
            byte = at + low_bytes + 64 * (j * high // 8)
            store_i8(byte, load_u8(byte) | ((code >> low) << (j * high % 8)))

    return put


@njit
def _nothing(source, i):
    return 0


def plane_format(
    name: str,
    file_block: int,
    file_block_bytes: int,
    decoder: PlaneDecoder,
    code: Any,
    *,
    small: Any = _nothing,
    halves: tuple[int, ...] = (),
    offset: int = 0,
    has_minimum: bool = False,
    n_parts: int = 1,
) -> Format:
    """A format of code planes. ``code(source, i)``: code of input i in a block of the file;
    ``small(source, i)``: its i-th small scale; ``halves``: where in the block its float16 are."""
    put = _code_packer(decoder.planes)
    subs_at, sub_bytes, code_bytes = decoder.subs_at, decoder.sub_bytes, decoder.code_bytes
    n_subs, n_bytes, n_halves = decoder.n_sub_blocks, decoder.n_bytes, len(halves)
    first_half, second_half = (*halves, 0, 0)[:2]

    @njit
    def pack(source, block, row):
        for s in range(n_subs):
            sub = block + subs_at + s * sub_bytes
            for i in range(QUANT_BLOCK):
                put(sub, row, i, code(source, s * QUANT_BLOCK + i))
            for i in range(n_bytes):
                store_i8(sub + code_bytes + 16 * i + row, small(source, s * n_bytes + i))
        if n_halves > 0:
            store_i16(block + 2 * row, load_u16(source + first_half))
        if n_halves > 1:
            store_i16(block + 32 + 2 * row, load_u16(source + second_half))

    bits = sum(decoder.planes)
    return Format(
        name,
        file_block,
        file_block_bytes,
        file_block,
        decoder.block_bytes,
        bits,
        offset,
        has_minimum,
        n_parts,
        max(decoder.table) if decoder.table else (1 << bits) - 1,
        len(decoder.planes) == 1 and file_block == QUANT_BLOCK and decoder.table is None,
        decoder,
        pack,
    )


def signed_byte(b: Any, small: tuple[Any, int]) -> Any:
    """16 small signed scales as float32."""
    return b.sitofp(b.sext(load_vector(b, *small, I8X16), I32X16), F32X16)
