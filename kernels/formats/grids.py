"""IQ1, IQ2 and IQ3: codes are indices into grids of 8 (IQ3: 4) small values, with signs.

The panel has the file's own bits: the words of each 32 inputs stand side by side for the 16 rows.
Entries are gathered from the grid for each tile, or permuted out of registers where the CPU can
(kernels/formats/permute.py). One Zen 5 core, one row, GOP/s, gathered -> permuted: IQ2_XXS 52 ->
175, IQ3_XXS 35 -> 125, IQ2_XS 53 -> 106, IQ2_S 54 -> 106, IQ3_S 33 -> 87, IQ1_S 55 -> 80, IQ1_M
54 -> 76 (Q4_0 240). For many rows the codes are unpacked first (kernels/formats/unpacked.py): 700
to 745 GOP/s.
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

from slotmux.kernels.address import I64, load_u8, load_u16, store_i8, store_i16
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X64
from slotmux.kernels.formats.base import (
    I16X16,
    Decoder,
    Format,
    SubBlock,
    const,
    half_vector,
    load_vector,
)
from slotmux.kernels.formats.gather import gather, gather_pairs
from slotmux.kernels.formats.permute import coded_grid, fields, look_up_128, table_address
from slotmux.kernels.simd import F32X16, I32X16, const_ir

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


def _signs(i: int) -> int:
    """7 bits of signs and the 8th that makes the number of ones even."""
    return i | i.bit_count() % 2 << 7


def _spread(b: Any, isa: Isa, packed: Any) -> Any:
    """4 x 7 bits of signs as 4 bytes with their 8th bits."""
    if isa.has_vbmi:
        sevens = fields(b, b.bitcast(packed, I8X64), [0, 7, 14, 21])
        table = table_address(b, "signs", [_signs(i) for i in range(128)])
        return b.bitcast(look_up_128(b, table, 0, sevens), I32X16)
    pairs = b.xor(packed, b.lshr(packed, const(1)))
    fours = b.xor(pairs, b.lshr(pairs, const(2)))
    parity = b.xor(b.xor(fours, b.lshr(pairs, const(4))), b.lshr(packed, const(6)))
    out = const(0)
    for i in range(4):
        seven = b.and_(b.lshr(packed, const(7 * i)), const(0x7F))
        eighth = b.and_(b.lshr(parity, const(7 * i)), const(1))
        out = b.or_(out, b.shl(join(b, seven, eighth, 7), const(8 * i)))
    return out


def _is_flipped(b: Any, flips: Any, group: int) -> Any:
    """Of 16 rows x 4 inputs, whether their bits are set; byte i of ``flips`` has the bits of inputs
    8 i to 8 i + 7."""
    undefined = ir.Constant(I8X64, ir.Undefined)
    picks = [4 * (lane // 4) + group // 2 for lane in range(64)]
    index = ir.Constant(ir.VectorType(ir.IntType(32), 64), picks)
    flips = b.shuffle_vector(b.bitcast(flips, I8X64), undefined, index)
    masks = ir.Constant(I8X64, [1 << (lane % 4 + group % 2 * 4) for lane in range(64)])
    return b.icmp_unsigned("!=", b.and_(flips, masks), ir.Constant(I8X64, None))


@dataclass(slots=True)
class GridWords:
    """What a sub-block's words say: ``index(i)``: number of its i-th grid entry; the scales of its
    parts; ``flips``: a bit an input, or 4 x 7 bits of them, ``sevens``."""

    index: Callable[[int], Any]
    scales: Callable[[], list[Any]]
    flips: Any = None
    sevens: Any = None


@dataclass(frozen=True, slots=True)
class GridDecoder(Decoder):
    """``read(b, d, sub)`` finds the words of a sub-block of ``sub_bytes``; the float16 scales
    stand behind the 8 sub-blocks. A flip bit takes a value to its negative; with a ``delta`` that
    is added to it, the bit has it subtracted."""

    name: str
    sub_bytes: int
    offset: int
    grid: tuple[int, ...]
    read: Callable[[Any, Any, Any], GridWords]
    n_words: int = 2  # of 4 values in an entry
    delta: int = 0

    def head(self, b: Any, block: Any) -> Any:
        """The scale."""
        return half_vector(b, block, N_SUBS * self.sub_bytes)

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """See Decoder."""
        sub = b.add(block, b.mul(index, ir.Constant(I64, self.sub_bytes)))
        found = self.read(b, head, sub)
        flips = found.flips if found.sevens is None else _spread(b, isa, found.sevens)
        make = self._permuted if isa.has_vbmi else self._gathered
        return SubBlock(make(b, isa, found, flips), lambda: (found.scales(), []))

    def _gathered(self, b: Any, isa: Isa, found: GridWords, flips: Any) -> Iterator[Any]:
        gathers = gather if self.n_words == 1 else gather_pairs
        delta, twice = const(self.delta, I8X64), const(2 * self.offset, I8X64)
        for group in range(8):
            if group % self.n_words == 0:
                i = group // self.n_words
                words = gathers(b, isa, self.name, self.grid, found.index(i))
            word = words if self.n_words == 1 else words[group % 2]
            code = b.bitcast(word, I8X64)
            plain = b.add(code, delta) if self.delta else code
            flipped = b.sub(code, delta) if self.delta else b.sub(twice, code)
            yield b.select(_is_flipped(b, flips, group), flipped, plain)

    def _permuted(self, b: Any, isa: Isa, found: GridWords, flips: Any) -> Iterator[Any]:
        grid = coded_grid(self.name, self.grid, self.n_words, self._flipped())
        flips = b.bitcast(flips, I8X64)
        for group in range(8):
            entry = group // self.n_words
            if group % (4 * self.n_words) == 0:
                low, high = self._indices(b, found, entry)
                planes = grid.look_up(b, low, high)
            yield grid.codes(b, planes[group % self.n_words], entry % 4, flips, 4 * group)

    def _indices(self, b: Any, found: GridWords, first: int) -> tuple[Any, Any]:
        """Low and high bytes of the numbers of 4 entries, those of a row in its lane."""
        low, high = const(0), const(0)
        for i in range(4):
            index = found.index(first + i)
            low = join(b, low, b.and_(index, const(255)), 8 * i)
            high = join(b, high, b.lshr(index, const(8)), 8 * i)
        return b.bitcast(low, I8X64), b.bitcast(high, I8X64)

    def _flipped(self) -> tuple[tuple[int, int, int], ...]:
        """Every value of the grid, what it stands for, and what with its flip bit."""
        values = sorted({word >> shift & 255 for word in self.grid for shift in (0, 8, 16, 24)})
        if self.delta:
            return tuple((value, value + self.delta, value - self.delta) for value in values)
        return tuple((value, value, 2 * self.offset - value) for value in values)


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
