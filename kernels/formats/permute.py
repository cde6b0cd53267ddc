"""Tables looked up within registers, 64 bytes at a time: AVX-512 VBMI.

A grid of some hundred entries is small enough to be permuted out of registers when its values are
cut to codes of 2 or 3 bits, where a gather takes 16 loads one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from slotmux.kernels.address import I64, hidden
from slotmux.kernels.dot import I8X64
from slotmux.kernels.formats.base import const, load_vector

I64X8 = ir.VectorType(I64, 8)
LOW_BITS = 2  # of a code; those of 3 bits have the third in a plane of its own


def _call(b: Any, name: str, *arguments: Any) -> Any:
    kind = ir.FunctionType(I8X64, [I8X64] * len(arguments))
    function = cgutils.get_or_insert_function(b.module, kind, f"llvm.x86.avx512.{name}")
    return b.call(function, list(arguments))


def _bytes(values: Sequence[int]) -> Any:
    return ir.Constant(I8X64, [value & 255 for value in values])


def table_address(b: Any, name: str, values: Sequence[int]) -> Any:
    """Where a table of bytes is. LLVM is kept from holding it in registers over a loop: there are
    not enough, and one that is looked up in is overwritten."""
    symbol = f"slotmux.table.{name}"
    if symbol not in b.module.globals:
        kind = ir.ArrayType(ir.IntType(8), len(values))
        cgutils.global_constant(b.module, symbol, ir.Constant(kind, list(values)))
    return hidden(b, b.ptrtoint(b.module.globals[symbol], I64))


def look_up_128(b: Any, table: Any, offset: int, index: Any) -> Any:
    """Of 128 bytes at ``table + offset`` those of 64 numbers; bit 7 of a number is not read."""
    first, second = (load_vector(b, table, offset + 64 * i, I8X64) for i in (0, 1))
    return _call(b, "vpermi2var.qi.512", first, index, second)


def _bit_masks(b: Any, low: Any, high: Any, n: int) -> list[Any]:
    """Whether bits 7 and up of numbers below ``n`` are set, lowest first."""
    zero = ir.Constant(I8X64, None)
    masks = [b.icmp_signed("<", low, zero)]
    for bit in range(n.bit_length() - 9):
        masks.append(b.icmp_unsigned("!=", b.and_(high, const(1 << bit, I8X64)), zero))
    return masks


def look_up(b: Any, table: Any, offset: int, n: int, low: Any, masks: list[Any]) -> Any:
    """The same of ``n`` bytes, a power of two, for numbers of more bits, see ``_bit_masks``."""
    if n == 128:
        return look_up_128(b, table, offset, low)
    lower, upper = (
        look_up(b, table, at, n // 2, low, masks[:-1]) for at in (offset, offset + n // 2)
    )
    return b.select(masks[-1], upper, lower)


def fields(b: Any, words: Any, starts: Sequence[int]) -> Any:
    """Byte k of each 32-bit lane becomes 8 bits of the lane from bit ``starts[k]`` on. Only bits
    of the lane itself may be used: others come in from its neighbour."""
    offsets = [(start + 32 * odd) % 64 for odd in (0, 1) for start in starts]
    return _call(b, "pmultishift.qb.512", _bytes(offsets * 8), words)


def _joined(b: Any, low: Any, high: Any, n_low: int) -> Any:
    """The ``n_low`` low bits of one and the others of the other, in the one instruction that LLVM
    makes two of."""
    kind = ir.FunctionType(I64X8, [I64X8] * 3 + [ir.IntType(32)])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx512.pternlog.q.512")
    mask = const((1 << n_low) - 1, I8X64)
    words = [b.bitcast(vector, I64X8) for vector in (mask, low, high)]
    return b.bitcast(b.call(function, [*words, ir.Constant(ir.IntType(32), 0xCA)]), I8X64)


@dataclass(frozen=True, slots=True)
class CodedGrid:
    """A grid whose entries are 1 or 2 words of 4 values, the values cut to codes.

    A plane has a byte for every entry. ``planes[t]``: of its word t, 4 x 2 low bits of the codes,
    and where codes have 3 bits, their 4 upper ones. ``values``: what a code stands for, without
    and with its flip bit.
    """

    name: str
    planes: tuple[tuple[tuple[int, ...], ...], ...]
    values: tuple[tuple[int, int], ...]

    @property
    def n_bits(self) -> int:
        """Of a code."""
        return LOW_BITS + len(self.planes[0]) - 1

    def look_up(self, b: Any, low: Any, high: Any) -> list[list[Any]]:
        """Of 64 entries the planes of each word."""
        n = len(self.planes[0][0])
        every = [value for planes in self.planes for plane in planes for value in plane]
        table, masks = table_address(b, self.name, every), _bit_masks(b, low, high, n)
        offsets = iter(range(0, len(every), n))
        return [
            [look_up(b, table, next(offsets), n, low, masks) for _ in planes]
            for planes in self.planes
        ]

    def codes(self, b: Any, found: list[Any], entry: int, flips: Any, first_flip: int) -> Any:
        """4 values of each lane, from byte ``entry`` of its planes and 4 bits of its flips."""
        index = fields(b, found[0], [8 * entry + LOW_BITS * k for k in range(4)])
        for plane in found[1:]:
            upper = fields(b, plane, [8 * entry + k - LOW_BITS for k in range(4)])
            index = _joined(b, index, upper, LOW_BITS)
        flip = fields(b, flips, [first_flip + k - self.n_bits for k in range(4)])
        index = _joined(b, index, flip, self.n_bits)
        table = [value for flipped in (0, 1) for value in self._column(flipped)]
        return _call(b, "permvar.qi.512", _bytes(table * (64 // len(table))), index)

    def _column(self, flipped: int) -> list[int]:
        rest = (1 << self.n_bits) - len(self.values)
        return [pair[flipped] for pair in self.values] + [0] * rest


@cache
def coded_grid(
    name: str, words: tuple[int, ...], n_words: int, flipped: tuple[tuple[int, int, int], ...]
) -> CodedGrid:
    """A grid of entries of ``n_words`` words of 4 values. ``flipped``: of each value that occurs,
    itself, what it stands for, and what with its flip bit."""
    code_of = {value: code for code, (value, _, _) in enumerate(flipped)}
    codes = [[code_of[word >> (8 * k) & 255] for k in range(4)] for word in words]
    low = [sum((c & 3) << (LOW_BITS * k) for k, c in enumerate(four)) for four in codes]
    upper = [sum(c >> LOW_BITS << k for k, c in enumerate(four)) for four in codes]
    kinds = (low, upper) if len(flipped) > 1 << LOW_BITS else (low,)
    planes = tuple(tuple(tuple(kind[t::n_words]) for kind in kinds) for t in range(n_words))
    return CodedGrid(name, planes, tuple((plain, other) for _, plain, other in flipped))
