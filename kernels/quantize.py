"""Float rows to the 8-bit activations of kernels/activations.py: one row, or eight at once.

codes = round(x * 127 / largest), half to even; scale = largest / 127, both of 16 inputs. Both forms
give the same bits. An inf or a NaN becomes an inf or NaN in the scale, and so in every product of
the row.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.activations import (
    BLOCK,
    BLOCK_BYTES,
    OFFSETS,
    SCALES,
    SUM,
    TILE_ROWS,
    blocks_at,
)
from slotmux.kernels.address import F32, I8, I16, I32, pointer
from slotmux.kernels.simd import F32X16, I32X16, f32x16, splat_ir

SMALLEST = 1e-36  # blocks of nothing larger are zeros: 127 / x would overflow
I8X16, F32X8, I32X8 = ir.VectorType(I8, 16), ir.VectorType(F32, 8), ir.VectorType(I32, 8)


def _shuffle(b: Any, x: Any, y: Any, index: list[int]) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(index)), index))


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _max_int(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed(">", x, y), x, y)


def _magnitude(b: Any, x: Any) -> Any:
    """The bits of floats without their sign: in the order of the floats, above all others a NaN."""
    return b.and_(b.bitcast(x, I32X16), _constant(I32X16, 0x7FFFFFFF))


def _scale_and_inverse(b: Any, largest: Any, kind: Any) -> tuple[Any, Any]:
    """largest / 127, and 127 / largest (0 where that would overflow); a float or a vector."""

    def constant(value: float) -> Any:
        return ir.Constant(kind, value) if kind is F32 else _constant(kind, value)

    inverse = b.fdiv(constant(127.0), largest)
    is_small = b.fcmp_ordered(">", largest, constant(SMALLEST))
    return b.fmul(largest, constant(1.0 / 127.0)), b.select(is_small, inverse, constant(0.0))


def _codes(b: Any, x: Any, inverse: Any) -> Any:
    """16 int8 (as a NaN: 0)."""
    rounded = simd.unary_ir(b, "rint", b.fmul(x, inverse))
    return b.trunc(b.fptosi(rounded, I32X16), I8X16)


def _load(b: Any, address: Any, offset: int) -> Any:
    value = b.load(pointer(b, address, offset), typ=F32X16)
    value.align = 4
    return value


def _store(b: Any, value: Any, block: Any, word: int) -> None:
    b.store(value, pointer(b, block, 4 * TILE_ROWS * word)).align = 4


def _pair_sums(b: Any, codes: Any, kind: Any, bits: int) -> Any:
    """Sums of the low and the high half of each of ``codes``' integers, which have two."""
    shift = _constant(kind, bits)
    return b.add(b.ashr(b.shl(codes, shift), shift), b.ashr(codes, shift))


def _word_sums(b: Any, words: list[Any]) -> Any:
    """Per lane of 32 bits: the sum of all int8 in it, of all ``words``."""
    kind = words[0].type
    narrow = ir.VectorType(I16, 2 * kind.count)
    pairs = [_pair_sums(b, b.bitcast(word, narrow), narrow, 8) for word in words]
    return _pair_sums(b, b.bitcast(reduce(b.add, pairs), kind), kind, 16)


def _store_sums(b: Any, block: Any, halves: list[Any], scales: list[Any]) -> None:
    """The words behind the codes, from the sums of codes and the scales of both halves."""
    kind = scales[0].type
    eight = ir.Constant(I32, -8) if kind is F32 else _constant(I32X8, -8)
    for half, (value, scale) in enumerate(zip(halves, scales, strict=True)):
        _store(b, scale, block, SCALES + half)
        _store(b, b.mul(value, eight), block, OFFSETS + half)
    sums = [b.fmul(s, b.sitofp(v, kind)) for s, v in zip(scales, halves, strict=True)]
    _store(b, b.fadd(*sums), block, SUM)


@intrinsic
def _quantize_one(ctx: Any, low: Any, high: Any, block: Any) -> Any:
    """Write one row's part of a block: 32 inputs; ``block`` is where its first code goes."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        low, high, block = args
        reduce_max = ir.FunctionType(I32, [I32X16])
        fn = cgutils.get_or_insert_function(b.module, reduce_max, "llvm.vector.reduce.smax.v16i32")
        scales, codes = [], []
        for value in (low, high):
            largest = b.bitcast(b.call(fn, [_magnitude(b, value)]), F32)
            scale, inverse = _scale_and_inverse(b, largest, F32)
            scales.append(scale)
            codes.append(_codes(b, value, splat_ir(b, inverse, F32X16)))
        words = b.bitcast(_shuffle(b, *codes, list(range(32))), I32X8)
        for i in range(8):
            _store(b, b.extract_element(words, ir.Constant(I32, i)), block, i)
        sums = _word_sums(b, [words])
        reduce_add = ir.FunctionType(I32, [ir.VectorType(I32, 4)])
        fn = cgutils.get_or_insert_function(b.module, reduce_add, "llvm.vector.reduce.add.v4i32")
        halves = [b.call(fn, [_shuffle(b, sums, sums, list(range(n, n + 4)))]) for n in (0, 4)]
        _store_sums(b, block, halves, scales)
        return c.get_dummy_value()

    return types.void(f32x16, f32x16, types.int64), codegen


def _largest(b: Any, vectors: list[Any]) -> Any:
    """The largest of the 16 integers of each of 16 vectors."""

    def merge(x: Any, y: Any, width: int) -> Any:
        """Runs of ``width`` lanes, of x and of y in turns, each the maximum of two runs."""
        first = [i // width % 2 * 16 + i // (2 * width) * 2 * width + i % width for i in range(16)]
        return _max_int(b, _shuffle(b, x, y, first), _shuffle(b, x, y, [i + width for i in first]))

    for width in (8, 4, 2, 1):
        vectors = [merge(vectors[i], vectors[i + width], width) for i in range(width)]
    return vectors[0]


def _transposed(b: Any, rows: list[Any]) -> list[Any]:
    """8 rows of 8 words, two to a vector (0 and 4, 1 and 5, ...), as 8 words of 8 rows: two
    words to a vector, ascending."""
    lanes = [0, 4, 8, 12]
    low = [n + i for n in lanes for i in (0, 16, 1, 17)]
    pairs = [
        _shuffle(b, rows[i], rows[i + 1], [n + 2 * half for n in low])
        for i in (0, 2)
        for half in (0, 1)
    ]
    # Each lane of 128 bits: two words of rows (0 1), of (2 3) in the other pair; rows 4 to 7 above.
    low = [n + i for n in lanes for i in (0, 1, 16, 17)]
    words = [
        _shuffle(b, pairs[half], pairs[2 + half], [n + 2 * i for n in low])
        for half in (0, 1)
        for i in (0, 1)
    ]
    # words[w] = word w of rows 0-3, word w + 4, and both again of rows 4-7.
    out = []
    for first in (0, 4):
        index = [first + i for i in (0, 1, 2, 3, 8, 9, 10, 11)]
        index += [16 + i for i in index]
        out += [_shuffle(b, words[w], words[w + 1], index) for w in (0, 2)]
    return out


@intrinsic
def _quantize_eight(ctx: Any, x: Any, stride: Any, block: Any) -> Any:
    """Write a whole block: 32 inputs of 8 rows of float32, ``stride`` bytes apart."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        x, stride, block = args
        at = [b.add(x, b.mul(stride, ir.Constant(stride.type, row))) for row in range(8)]
        halves = [[_load(b, a, offset) for a in at] for offset in (0, 64)]
        magnitudes = [_magnitude(b, value) for half in halves for value in half]
        largest = b.bitcast(_largest(b, magnitudes), F32X16)
        both, inverse = _scale_and_inverse(b, largest, F32X16)
        scales = [_shuffle(b, both, both, list(range(first, first + 8))) for first in (0, 8)]
        codes = []
        for row in range(8):
            factors = [_shuffle(b, inverse, inverse, [lane] * 16) for lane in (row, 8 + row)]
            parts = [_codes(b, half[row], f) for half, f in zip(halves, factors, strict=True)]
            codes.append(b.bitcast(_shuffle(b, *parts, list(range(32))), I32X8))
        pairs = [_shuffle(b, codes[i], codes[i + 4], list(range(16))) for i in range(4)]
        words = _transposed(b, pairs)
        for i, word in enumerate(words):
            _store(b, word, block, 2 * i)
        sums = [_word_sums(b, words[:2]), _word_sums(b, words[2:])]
        folded = [
            b.add(_shuffle(b, s, s, list(range(8))), _shuffle(b, s, s, list(range(8, 16))))
            for s in sums
        ]
        _store_sums(b, block, folded, scales)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@njit(forceinline=True)
def quantize_block(low, high, block, row):
    """Quantise 32 inputs (two vectors) into row ``row`` of a block."""
    _quantize_one(low, high, block + 4 * row)


@njit
def quantize_tile(x, stride, n_inputs, n_rows, blocks):
    """Quantise n_inputs of the ``n_rows`` first rows of a tile into its blocks at ``blocks``.

    x: float32 rows of ``stride`` bytes. With more than one row there must be room for 8 there,
    whatever the others hold: all rows of the tile are written.
    """
    for k in range(n_inputs // BLOCK):
        at, block = x + 4 * BLOCK * k, blocks + k * BLOCK_BYTES
        if n_rows > 1:
            _quantize_eight(at, stride, block)
        else:
            quantize_block(simd.load(at), simd.load(at + 64), block, 0)


@njit
def quantize_rows(x, stride, n_columns, tiles, n_inputs, row, n_rows, column):
    """Quantise ``n_columns`` of ``n_rows`` rows within one tile, from row ``row`` of all and
    ``column`` on, each of n_inputs; x: as quantize_tile's. Of a tile that is not whole only these
    rows are written: the others are somebody else's."""
    if n_rows == TILE_ROWS:
        quantize_tile(x, stride, n_columns, n_rows, blocks_at(tiles, n_inputs, row, column))
        return
    for i in range(n_rows):
        for c in range(0, n_columns, BLOCK):
            at, block = x + i * stride + 4 * c, blocks_at(tiles, n_inputs, row + i, column + c)
            quantize_block(simd.load(at), simd.load(at + 64), block, (row + i) % TILE_ROWS)
