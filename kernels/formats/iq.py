"""The words of each IQ1, IQ2 and IQ3 type, see kernels/formats/grids.py."""

from __future__ import annotations

from typing import Any

from numba import njit

from slotmux.kernels.address import load_u8, load_u16, store_i8, store_i16
from slotmux.kernels.formats.base import const, unsigned_bytes
from slotmux.kernels.formats.grids import (
    N_SUBS,
    GridDecoder,
    GridWords,
    bits,
    grid_format,
    grid_words,
    join,
    odd_scale,
    words16,
    words32,
)


def _nibble_scales(b: Any, d: Any, byte: Any) -> list[Any]:
    return [odd_scale(b, d, bits(b, byte, 4 * part, 4), 0.125) for part in (0, 1)]


def _iq2_xxs(b: Any, d: Any, sub: Any) -> GridWords:
    """Bytes of 4 indices; a word of 4 x 7 signs and 4 bits of scale."""
    indices, rest = words32(b, sub, 0), words32(b, sub, 64)
    return GridWords(
        lambda i: bits(b, indices, 8 * i, 8),
        lambda: [odd_scale(b, d, bits(b, rest, 28, 4), 0.125)],
        sevens=rest,
    )


def _iq2_xs(b: Any, d: Any, sub: Any) -> GridWords:
    """4 words of 9 bits of index and 7 signs; a byte of two scales."""
    pairs = [words32(b, sub, 0), words32(b, sub, 64)]
    signs = const(0)
    for i in range(4):
        seven = bits(b, pairs[i // 2], i % 2 * 16 + 9, 7)
        signs = b.or_(signs, b.shl(seven, const(7 * i)))
    return GridWords(
        lambda i: bits(b, pairs[i // 2], i % 2 * 16, 9),
        lambda: _nibble_scales(b, d, unsigned_bytes(b, sub, 128)),
        sevens=signs,
    )


def _iq2_s(b: Any, d: Any, sub: Any) -> GridWords:
    """4 indices of 8 bits, 4 x 8 signs, a byte of 4 x 2 upper bits, a byte of two scales."""
    low, high = words32(b, sub, 0), unsigned_bytes(b, sub, 128)

    def index(i: int) -> Any:
        return join(b, bits(b, low, 8 * i, 8), bits(b, high, 2 * i, 2), 8)

    return GridWords(
        index,
        lambda: _nibble_scales(b, d, unsigned_bytes(b, sub, 144)),
        words32(b, sub, 64),
    )


def _iq3_xxs(b: Any, d: Any, sub: Any) -> GridWords:
    """8 indices of 8 bits; a word of 4 x 7 signs and 4 bits of scale."""
    indices, rest = [words32(b, sub, 0), words32(b, sub, 64)], words32(b, sub, 128)
    return GridWords(
        lambda i: bits(b, indices[i // 4], i % 4 * 8, 8),
        lambda: [odd_scale(b, d, bits(b, rest, 28, 4), 0.25)],
        sevens=rest,
    )


def _iq3_s(b: Any, d: Any, sub: Any) -> GridWords:
    """8 indices of 8 bits, 4 x 8 signs, a byte of 8 upper bits, a byte of one scale."""
    low, high = [words32(b, sub, 0), words32(b, sub, 64)], unsigned_bytes(b, sub, 192)

    def index(i: int) -> Any:
        return join(b, bits(b, low[i // 4], i % 4 * 8, 8), bits(b, high, i, 1), 8)

    return GridWords(
        index,
        lambda: [odd_scale(b, d, unsigned_bytes(b, sub, 208), 1.0)],
        words32(b, sub, 128),
    )


def _byte_of_bit(b: Any, word: Any, bit: int, n_bytes: int, first: int) -> Any:
    """``n_bytes`` bytes of ones from byte ``first`` on where the lane's bit is set."""
    ones = ((1 << 8 * n_bytes) - 1) << 8 * first
    is_set = b.icmp_unsigned("!=", bits(b, word, bit, 1), const(0))
    return b.select(is_set, const(ones), const(0))


def _iq1_s(b: Any, d: Any, sub: Any) -> GridWords:
    """4 indices of 8 bits; a word of 4 x 3 upper bits, 3 bits of scale and the delta's sign."""
    low, rest = words32(b, sub, 0), words16(b, sub, 64)

    def index(i: int) -> Any:
        return join(b, bits(b, low, 8 * i, 8), bits(b, rest, 3 * i, 3), 8)

    return GridWords(
        index,
        lambda: [odd_scale(b, d, bits(b, rest, 12, 3), 0.125)],
        _byte_of_bit(b, rest, 15, 4, 0),
    )


def _iq1_m(b: Any, d: Any, sub: Any) -> GridWords:
    """4 indices of 8 bits; 4 x (3 upper bits, the delta's sign); a byte of two scales."""
    low, rest = words32(b, sub, 0), words16(b, sub, 64)
    flips = const(0)
    for i in range(4):
        flips = b.or_(flips, _byte_of_bit(b, rest, 4 * i + 3, 1, i))

    def index(i: int) -> Any:
        return join(b, bits(b, low, 8 * i, 8), bits(b, rest, 4 * i, 3), 8)

    def scales() -> list[Any]:
        both = unsigned_bytes(b, sub, 96)
        return [odd_scale(b, d, bits(b, both, 3 * part, 3), 0.125) for part in (0, 1)]

    return GridWords(index, scales, flips)


@njit
def _iq3_s_scale(source, s):
    return load_u8(source + 106 + s // 2) >> (s % 2 * 4) & 15


@njit
def _pack_iq3_s(source, block, row):
    for s in range(N_SUBS):
        sub = block + s * 224
        for i in range(8):
            at = sub + i // 4 * 64 + 4 * row + i % 4
            store_i8(at, load_u8(source + 2 + 8 * s + i))
        for i in range(4):
            store_i8(sub + 128 + 4 * row + i, load_u8(source + 74 + 4 * s + i))
        store_i8(sub + 192 + row, load_u8(source + 66 + s))
        store_i8(sub + 208 + row, _iq3_s_scale(source, s))
    store_i16(block + 8 * 224 + 2 * row, load_u16(source))


@njit
def _pack_iq1_m(source, block, row):
    """Its float16 is in the upper 4 bits of the 4 words that have 4 x 3 bits of scales."""
    d = 0
    for s in range(N_SUBS):
        sub, word = block + s * 112, load_u16(source + 48 + s // 2 * 2)
        for i in range(4):
            store_i8(sub + 4 * row + i, load_u8(source + 4 * s + i))
        store_i16(sub + 64 + 2 * row, load_u16(source + 32 + 2 * s))
        store_i8(sub + 96 + row, word >> (s % 2 * 6) & 63)
        if s % 2 == 0:
            d |= word >> 12 << (4 * (s // 2))
    store_i16(block + 8 * 112 + 2 * row, d)


def _decoder(name: str, sub_bytes: int, offset: int, read: Any, grid: str = "") -> GridDecoder:
    grid, is_ternary = grid or name, name.startswith("iq1")
    # A ternary delta is an eighth of the grid's unit.
    words = grid_words(grid.upper(), offset, 8 if is_ternary else 1)
    n_words = 1 if name.startswith("iq3") else 2
    return GridDecoder(grid, sub_bytes, offset, words, read, n_words, int(is_ternary))


FORMATS = (
    grid_format(
        "iq2_xxs", 66, _decoder("iq2_xxs", 128, 64, _iq2_xxs), ((2, 8, 0),),
    ),
    grid_format(
        "iq2_xs", 74, _decoder("iq2_xs", 144, 64, _iq2_xs), ((2, 8, 0), (66, 1, 128)), n_parts=2,
    ),
    grid_format(
        "iq2_s", 82, _decoder("iq2_s", 160, 64, _iq2_s),
        ((2, 4, 0), (34, 4, 64), (66, 1, 128), (74, 1, 144)), n_parts=2,
    ),
    grid_format(
        "iq3_xxs", 98, _decoder("iq3_xxs", 192, 64, _iq3_xxs), ((2, 8, 0), (66, 4, 128)),
    ),
    grid_format("iq3_s", 110, _decoder("iq3_s", 224, 16, _iq3_s), (), pack=_pack_iq3_s),
    grid_format("iq1_s", 50, _decoder("iq1_s", 96, 16, _iq1_s), ((2, 4, 0), (34, 2, 64))),
    grid_format(
        "iq1_m", 56, _decoder("iq1_m", 112, 16, _iq1_m, "iq1_s"), (), n_parts=2,
        pack=_pack_iq1_m,
    ),
)  # fmt: skip
