"""Writing a token's k and v into its cell of the KV cache, for each cell type.

A block holds 16 cells. For each KV head it has K as [head_dim][16 cells] and V as [16 cells]
[v_dim rounded up to 16]. Type q8_0 keeps int8 codes there, and after all codes of the head's K
(or V) one f16 scale for every 32 dimensions of a cell: [head_dim / 32][16 cells] for K,
[16 cells][v_dim / 32] for V; value = scale * code, scale = largest magnitude / 127.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from slotmux.kernels.address import load_f32, store_f16, store_f32, store_i8

CELLS = 16  # in a block
GROUP = 32  # dimensions that share a scale
CELL_TYPES = ("f16", "f32", "q8_0")
LATENT = "latent"  # V's type where V is the first part of K: see latent.py


CELL_BYTES = {"f16": 2, "f32": 4, "q8_0": 1}  # of one dimension, without scales


def head_bytes(cell_type: str, width: int) -> int:
    """Bytes of one head's K or V in a block; ``width``: dimensions of a cell."""
    scale_bytes = 2 if cell_type == "q8_0" else 0
    return CELLS * (width * CELL_BYTES[cell_type] + width // GROUP * scale_bytes)


def build_head_bytes(cell_type: str) -> Any:
    """``head_bytes`` of one cell type, for kernels."""
    size, scale_bytes = CELL_BYTES[cell_type], 2 if cell_type == "q8_0" else 0

    @njit
    def bytes_of(width):
        return CELLS * (width * size + width // GROUP * scale_bytes)

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


def build_writer(cell_type: str) -> Any:
    """write(x, n, to, stride, scales, scale_stride, n_padded): n floats at x as values of a cell,
    ``stride`` values apart, zeros up to n_padded; scales (q8_0 only) ``scale_stride`` apart."""
    return _write_q8 if cell_type == "q8_0" else _plain_writer(cell_type)


def build_store(k_type: str, v_type: str) -> Any:
    """store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim): a token's k and v (float32,
    head after head) into cell ``cell`` of a block."""
    write_k, write_v = build_writer(k_type), build_writer(v_type)
    k_size, v_size = CELL_BYTES[k_type], CELL_BYTES[v_type]
    k_bytes_of, v_bytes_of = build_head_bytes(k_type), build_head_bytes(v_type)

    @njit
    def store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim):
        padded = (v_dim + 15) // 16 * 16
        k_bytes, v_bytes = k_bytes_of(head_dim), v_bytes_of(padded)
        for head in range(n_head_kv):
            k_to, v_to = k_block + head * k_bytes, v_block + head * v_bytes
            k_scales = k_to + CELLS * head_dim + 2 * cell
            v_scales = v_to + CELLS * padded + cell * (padded // GROUP) * 2
            write_k(k + 4 * head * head_dim, head_dim, k_to + cell * k_size, CELLS, k_scales,
                    CELLS, head_dim)  # fmt: skip
            write_v(v + 4 * head * v_dim, v_dim, v_to + cell * padded * v_size, 1, v_scales, 1,
                    padded)  # fmt: skip

    return store
