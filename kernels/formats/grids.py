"""IQ1, IQ2 and IQ3: codes are indices into grids of 8 (IQ3: 4) small values, with signs.

The panel has the file's own bits: the words of each 32 inputs stand side by side for the 16 rows.
Products of few rows gather from the grid for each tile, so they are slower than other formats'
(one Zen 5 core: 33 to 57 GOP/s with one row, 180 to 265 with eight; Q4_0 341 and 763). For many
rows the codes are unpacked first (kernels/formats/unpacked.py): 700 to 745 GOP/s.
Grid values come out as unsigned bytes, moved up by the format's offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numpy.typing import NDArray

from kernels.address import I64, load_u8, load_u16, store_i8, store_i16
from kernels.cpu import Isa
from kernels.dot import I8X64
from kernels.formats.base import (
    I16X16,
    Decoder,
    Format,
    SubBlock,
    const,
    half_vector,
    load_vector,
)
from kernels.formats.gather import gather, gather_pairs
from kernels.simd import F32X16, I32X16, const_ir

N_SUBS = 8


def grid_words(name: str, offset: int, scale: int = 1) -> tuple[int, ...]:
    """The gguf package's grid, 4 values to a word, each times ``scale`` plus ``offset``."""
    from gguf import quants

    traits: Any = getattr(quants, name)
    traits.init_grid()
    values: NDArray[Any] = traits.grid.reshape(-1) * scale + offset
    assert values.min() >= 0
    assert values.max() < 128
    return tuple(int(word) for word in values.astype(np.uint8).view(np.uint32))


def bits(b: Any, word: Any, start: int, n: int) -> Any:
    """``n`` bits of every lane, from bit ``start`` on."""
    if start:
        word = b.lshr(word, const(start))
    return b.and_(word, const((1 << n) - 1)) if start + n < 32 else word


def join(b: Any, low: Any, high: Any, shift: int) -> Any:
    """low | high << shift."""
    return b.or_(low, b.shl(high, const(shift)))


def odd_scale(b: Any, d: Any, s: Any, factor: float) -> Any:
    """d * (2 * s + 1) * factor; the factor is a power of two."""
    odd = b.or_(b.shl(s, const(1)), const(1))
    return b.fmul(b.fmul(d, b.uitofp(odd, F32X16)), const_ir(factor))


def words32(b: Any, sub: Any, at: int) -> Any:
    """16 rows' 32-bit words."""
    return load_vector(b, sub, at, I32X16)


def words16(b: Any, sub: Any, at: int) -> Any:
    """16 rows' 16-bit words."""
    return b.zext(load_vector(b, sub, at, I16X16), I32X16)


def spread_signs(b: Any, packed: Any) -> Any:
    """4 x 7 bits of signs as 4 bytes; the 8th bit of each makes the number of ones even."""
    pairs = b.xor(packed, b.lshr(packed, const(1)))
    fours = b.xor(pairs, b.lshr(pairs, const(2)))
    parity = b.xor(b.xor(fours, b.lshr(pairs, const(4))), b.lshr(packed, const(6)))
    out = const(0)
    for i in range(4):
        seven = b.and_(b.lshr(packed, const(7 * i)), const(0x7F))
        eighth = b.and_(b.lshr(parity, const(7 * i)), const(1))
        out = b.or_(out, b.shl(join(b, seven, eighth, 7), const(8 * i)))
    return out


def _negate(b: Any, codes: Any, signs: Any, group: int, offset: int) -> Any:
    """2 * offset - code where the sign bit of the input is set; byte i of ``signs`` has the bits
    of inputs 8 i to 8 i + 7."""
    undefined = ir.Constant(I8X64, ir.Undefined)
    picks = [4 * (lane // 4) + group // 2 for lane in range(64)]
    index = ir.Constant(ir.VectorType(ir.IntType(32), 64), picks)
    signs = b.shuffle_vector(b.bitcast(signs, I8X64), undefined, index)
    masks = ir.Constant(I8X64, [1 << (lane % 4 + group % 2 * 4) for lane in range(64)])
    is_set = b.icmp_unsigned("!=", b.and_(signs, masks), ir.Constant(I8X64, None))
    return b.select(is_set, b.sub(const(2 * offset, I8X64), codes), codes)


@dataclass(slots=True)
class GridWords:
    """What a sub-block's words say: ``index(i)``: number of its i-th grid entry; the scales of its
    parts; ``signs``: a bit an input, or ``shift(i)``: bytes to add to the i-th entry's."""

    index: Callable[[int], Any]
    scales: Callable[[], list[Any]]
    signs: Any = None
    shift: Callable[[int], Any] | None = None


@dataclass(frozen=True, slots=True)
class GridDecoder(Decoder):
    """``read(b, d, sub)`` finds the words of a sub-block of ``sub_bytes``; the float16 scales
    stand behind the 8 sub-blocks."""

    name: str
    sub_bytes: int
    offset: int
    grid: tuple[int, ...]
    read: Callable[[Any, Any, Any], GridWords]
    is_paired: bool = True  # entries of 8 values, otherwise of 4

    def head(self, b: Any, block: Any) -> Any:
        """The scale."""
        return half_vector(b, block, N_SUBS * self.sub_bytes)

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """See Decoder."""
        sub = b.add(block, b.mul(index, ir.Constant(I64, self.sub_bytes)))
        found = self.read(b, head, sub)

        def entry(i: int) -> tuple[Any, ...]:
            if self.is_paired:
                return gather_pairs(b, isa, self.name, self.grid, found.index(i))
            return (gather(b, isa, self.name, self.grid, found.index(i)),)

        def codes() -> Iterator[Any]:
            group = 0
            for i in range(4 if self.is_paired else 8):
                for code in entry(i):
                    code = b.bitcast(code, I8X64)
                    if found.signs is not None:
                        code = _negate(b, code, found.signs, group, self.offset)
                    if found.shift is not None:
                        code = b.add(code, found.shift(i))
                    yield code
                    group += 1

        return SubBlock(codes(), lambda: (found.scales(), []))


def _packer(runs: tuple[tuple[int, int, int], ...], half: int, sub_bytes: int) -> Any:
    """Copies each (where in the file's block, bytes a row for 32 inputs, where in the sub-block)
    and the float16 at ``half``."""
    table = np.array(runs, np.int64)

    @njit
    def pack(source, block, row):
        for s in range(N_SUBS):
            sub = block + s * sub_bytes
            for r in range(len(table)):
                at, n, to = table[r, 0], table[r, 1], table[r, 2]
                # more than 4 bytes a row are stored as words of 4
                width = min(n, 4)
                for i in range(n):
                    place = to + i // width * 16 * width + row * width + i % width
                    store_i8(sub + place, load_u8(source + at + s * n + i))
        store_i16(block + N_SUBS * sub_bytes + 2 * row, load_u16(source + half))

    return pack


def grid_format(
    name: str,
    file_block_bytes: int,
    decoder: GridDecoder,
    runs: tuple[tuple[int, int, int], ...],
    *,
    n_parts: int = 1,
    pack: Any = None,
) -> Format:
    """A format of 256 inputs a block. ``runs``: see _packer."""
    return Format(
        name,
        256,
        file_block_bytes,
        256,
        N_SUBS * decoder.sub_bytes + 32,
        8,
        decoder.offset,
        n_parts=n_parts,
        max_code=127,
        decoder=decoder,
        pack=pack or _packer(runs, 0, decoder.sub_bytes),
    )
