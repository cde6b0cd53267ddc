"""Look bytes up in a table of 16 bytes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X32, I8X64, by_halves


def _shuffle(name: str, vector: Any, table: tuple[int, ...]) -> Any:
    """x86 byte shuffle: within each 16 bytes, picks by the low 4 bits of the index."""

    def call(b: Any, codes: Any) -> Any:
        kind = ir.FunctionType(vector, [vector, vector])
        function = cgutils.get_or_insert_function(b.module, kind, name)
        return b.call(function, [ir.Constant(vector, list(table) * (vector.count // 16)), codes])

    return call


def _select(b: Any, table: tuple[int, ...], codes: Any) -> Any:
    """The same from compares and selects, one level a bit of the index."""
    level = [ir.Constant(I8X64, [value] * 64) for value in table]
    zero = ir.Constant(I8X64, None)
    for bit in range(4):
        mask = ir.Constant(I8X64, [1 << bit] * 64)
        is_set = b.icmp_unsigned("!=", b.and_(codes, mask), zero)
        level = [b.select(is_set, level[i + 1], level[i]) for i in range(0, len(level), 2)]
    return level[0]


def look_up(b: Any, isa: Isa, table: tuple[int, ...], codes: Any) -> Any:
    """table[code] for 64 codes below 16; the table's values are 0..255."""
    if isa.is_avx512:
        return _shuffle("llvm.x86.avx512.pshuf.b.512", I8X64, table)(b, codes)
    if isa in (Isa.AVX_VNNI, Isa.AVX2):
        return by_halves(_shuffle("llvm.x86.avx2.pshuf.b", I8X32, table))(b, codes)
    return _select(b, table, codes)
