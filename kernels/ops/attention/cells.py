"""Writing a token's k and v into its cell of the KV cache, for each cell type.

A block holds 16 cells. For each KV head it has K as [head_dim][16 cells] and V as [16 cells]
[v_dim rounded up to 16]. Type q8_0 keeps int8 codes there, and after all codes of the head's K
(or V) one f16 scale for every 32 dimensions of a cell: [head_dim / 32][16 cells] for K,
[16 cells][v_dim / 32] for V; value = scale * code, scale = largest magnitude / 127.

Type i16 keeps int16 codes with one float32 scale a cell behind all codes of the head, and two
neighbours side by side, as products of pairs read them (word_tiles.py): K as [head_dim / 2][16
cells][2], V as [8][v_dim rounded up to 16][2 cells]. Codes of K have the norm KEY_NORM, of V the
largest magnitude VALUE_CODES.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from slotmux.kernels.address import load_f32, store_f16, store_f32, store_i8, store_i16

CELLS = 16  # in a block
GROUP = 32  # dimensions that share a scale
CELL_TYPES = ("f16", "f32", "q8_0", "i16")
WORDS = "i16"  # codes of 16 bits, which are multiplied as they are
LATENT = "latent"  # V's type where V is the first part of K: see latent.py


KEY_NORM = np.float32(32000.0)
VALUE_CODES = 16383
SMALLEST = np.float32(1e-30)  # a scale below it is zero: what it would divide is nothing

CELL_BYTES = {"f16": 2, "f32": 4, "q8_0": 1, "i16": 2}  # of one dimension, without scales


def head_bytes(cell_type: str, width: int) -> int:
    """Bytes of one head's K or V in a block; ``width``: dimensions of a cell."""
    scales = 4 if cell_type == WORDS else width // GROUP * 2 if cell_type == "q8_0" else 0
    return CELLS * (width * CELL_BYTES[cell_type] + scales)


def build_head_bytes(cell_type: str) -> Any:
    """``head_bytes`` of one cell type, for kernels."""
    size, scale_bytes = CELL_BYTES[cell_type], 2 if cell_type == "q8_0" else 0
    one_scale = 4 if cell_type == WORDS else 0

    @njit
    def bytes_of(width):
        return CELLS * (width * size + width // GROUP * scale_bytes + one_scale)

    return bytes_of


@njit(forceinline=True)
def _half_range(x):
    """Within float16's range: an infinity in a cell would poison tokens that must not see it."""
    return max(min(x, np.float32(65504.0)), np.float32(-65504.0))


def _plain_writer(cell_type: str) -> Any:
    is_half, size = cell_type == "f16", CELL_BYTES[cell_type]

    @njit
    def write(x, n, to, stride, scales, scale_stride, n_padded):
        for d in range(n_padded):
            value = load_f32(x + 4 * d) if d < n else np.float32(0.0)
            if is_half:
                store_f16(to + d * stride * size, _half_range(value))
            else:
                store_f32(to + d * stride * size, value)

    return write


@njit
def _write_q8(x, n, to, stride, scales, scale_stride, n_padded):
    for group in range(n // GROUP):
        at = x + 4 * GROUP * group
        largest = np.float32(0.0)
        for i in range(GROUP):
            largest = max(largest, abs(load_f32(at + 4 * i)))
        inverse = np.float32(0.0)
        if largest > np.float32(0.0):
            inverse = np.float32(127.0) / largest
        store_f16(scales + group * scale_stride * 2, _half_range(largest / np.float32(127.0)))
        for i in range(GROUP):
            code = np.int64(np.rint(load_f32(at + 4 * i) * inverse))
            store_i8(to + (group * GROUP + i) * stride, code)


@njit
def _write_words(x, n, to, group, stride, scale, n_padded):
    """n floats at x as int16: ``group`` neighbours side by side, ``stride`` bytes from group to
    group; zeros up to n_padded."""
    inverse = np.float32(1.0) / scale if scale > SMALLEST else np.float32(0.0)
    for d in range(n_padded):
        code = np.rint(_half_range(load_f32(x + 4 * d)) * inverse) if d < n else np.float32(0.0)
        store_i16(to + d // group * stride + d % group * 2, np.int64(code))


@njit
def _write_word_key(k, head_dim, block, cell):
    """A head's k into its cell of an i16 block."""
    total = np.float32(0.0)
    for d in range(head_dim):
        x = _half_range(load_f32(k + 4 * d))
        total += x * x
    scale = np.sqrt(total) / KEY_NORM
    _write_words(k, head_dim, block + 4 * cell, 2, 4 * CELLS, scale, head_dim)
    store_f32(block + 2 * CELLS * head_dim + 4 * cell, scale)


@njit
def _write_word_value(v, v_dim, block, cell, padded):
    """A head's v into its cell of an i16 block."""
    largest = np.float32(0.0)
    for d in range(v_dim):
        largest = max(largest, abs(_half_range(load_f32(v + 4 * d))))
    scale = largest / np.float32(VALUE_CODES)
    to = block + 4 * (cell // 2 * padded) + 2 * (cell % 2)
    _write_words(v, v_dim, to, 1, 4, scale, padded)
    store_f32(block + 2 * CELLS * padded + 4 * cell, scale)


def build_writer(cell_type: str) -> Any:
    """write(x, n, to, stride, scales, scale_stride, n_padded): n floats at x as values of a cell,
    ``stride`` values apart, zeros up to n_padded; scales (q8_0 only) ``scale_stride`` apart."""
    return _write_q8 if cell_type == "q8_0" else _plain_writer(cell_type)


def _build_key_store(cell_type: str) -> Any:
    """store(k, head_dim, block, cell): a head's k into its cell."""
    if cell_type == WORDS:
        return _write_word_key
    write, size = build_writer(cell_type), CELL_BYTES[cell_type]

    @njit
    def store(k, head_dim, block, cell):
        scales = block + CELLS * head_dim + 2 * cell
        write(k, head_dim, block + cell * size, CELLS, scales, CELLS, head_dim)

    return store


def _build_value_store(cell_type: str) -> Any:
    """store(v, v_dim, block, cell, padded): a head's v into its cell."""
    if cell_type == WORDS:
        return _write_word_value
    write, size = build_writer(cell_type), CELL_BYTES[cell_type]

    @njit
    def store(v, v_dim, block, cell, padded):
        scales = block + CELLS * padded + cell * (padded // GROUP) * 2
        write(v, v_dim, block + cell * padded * size, 1, scales, 1, padded)

    return store


def build_store(k_type: str, v_type: str) -> Any:
    """store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim): a token's k and v (float32,
    head after head) into cell ``cell`` of a block."""
    store_key, store_value = _build_key_store(k_type), _build_value_store(v_type)
    k_bytes_of, v_bytes_of = build_head_bytes(k_type), build_head_bytes(v_type)

    @njit
    def store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim):
        padded = (v_dim + 15) // 16 * 16
        k_bytes, v_bytes = k_bytes_of(head_dim), v_bytes_of(padded)
        for head in range(n_head_kv):
            store_key(k + 4 * head * head_dim, head_dim, k_block + head * k_bytes, cell)
            store_value(v + 4 * head * v_dim, v_dim, v_block + head * v_bytes, cell, padded)

    return store
