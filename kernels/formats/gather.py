"""Look 32-bit words up in a constant table, 16 at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from slotmux.kernels.address import I32, I64, PTR
from slotmux.kernels.cpu import Isa
from slotmux.kernels.simd import I32X16

I64X8 = ir.VectorType(I64, 8)


def _table(b: Any, name: str, words: tuple[int, ...]) -> Any:
    """Address of the table, put into the module once."""
    symbol = f"slotmux.grid.{name}"
    if symbol in b.module.globals:
        return b.module.globals[symbol]
    kind = ir.ArrayType(I32, len(words))
    return cgutils.global_constant(b.module, symbol, ir.Constant(kind, list(words)))


def _by_lane(b: Any, table: Any, index: Any, out: Any) -> Any:
    """Loads one after the other into the lanes of ``out``."""
    element = out.type.element
    for lane in range(out.type.count):
        i = b.extract_element(index, ir.Constant(I32, lane))
        value = b.load(b.gep(table, [i], source_etype=element), typ=element)
        value.align = 4
        out = b.insert_element(out, value, ir.Constant(I32, lane))
    return out


def _avx512(b: Any, name: str, table: Any, index: Any, result: Any) -> Any:
    mask = ir.VectorType(ir.IntType(1), result.count)
    kind = ir.FunctionType(result, [result, PTR, index.type, mask, I32])
    function = cgutils.get_or_insert_function(b.module, kind, f"llvm.x86.avx512.mask.gather.{name}")
    scale = ir.Constant(I32, result.element.width // 8)
    ones = ir.Constant(mask, [1] * result.count)
    return b.call(function, [ir.Constant(result, None), table, index, ones, scale])


def _pick(b: Any, x: Any, y: Any, lanes: Any) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def gather(b: Any, isa: Isa, name: str, words: tuple[int, ...], index: Any) -> Any:
    """words[index] for 16 lanes."""
    table = _table(b, name, words)
    if isa.is_avx512:
        return _avx512(b, "dpi.512", table, index, I32X16)
    return _by_lane(b, table, index, ir.Constant(I32X16, ir.Undefined))


def gather_pairs(
    b: Any, isa: Isa, name: str, words: tuple[int, ...], index: Any
) -> tuple[Any, Any]:
    """words[2 * index] and words[2 * index + 1] for 16 lanes, with one load for both."""
    table = _table(b, name, words)
    halves = []
    for half in range(2):
        part = _pick(b, index, index, range(8 * half, 8 * half + 8))
        if isa.is_avx512:
            both = _avx512(b, "dpq.512", table, part, I64X8)
        else:
            both = _by_lane(b, table, part, ir.Constant(I64X8, ir.Undefined))
        halves.append(b.bitcast(both, I32X16))
    return _pick(b, *halves, range(0, 32, 2)), _pick(b, *halves, range(1, 32, 2))
