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

from kernels.address import load_f32, store_f16, store_f32, store_i8

CELLS = 16  # in a block
GROUP = 32  # dimensions that share a scale
CELL_TYPES = ("f16", "f32", "q8_0")


def head_bytes(cell_type: str, width: int) -> int:
    """Bytes of one head's K or V in a block; ``width``: dimensions of a cell."""
    if cell_type == "q8_0":
        return CELLS * width + CELLS * 2 * (width // GROUP)
    return CELLS * width * (2 if cell_type == "f16" else 4)


@njit(forceinline=True)
def _half_range(x):
    """Within float16's range: an infinity in a cell would poison tokens that must not see it."""
    return max(min(x, np.float32(65504.0)), np.float32(-65504.0))


def _plain_writer(cell_type: str) -> Any:
    is_half = cell_type == "f16"
    size = 2 if is_half else 4

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


def _writer(cell_type: str) -> Any:
    return _write_q8 if cell_type == "q8_0" else _plain_writer(cell_type)


def build_store(k_type: str, v_type: str) -> Any:
    """store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim): a token's k and v (float32,
    head after head) into cell ``cell`` of a block."""
    write_k, write_v = _writer(k_type), _writer(v_type)
    k_size, v_size = (1 if t == "q8_0" else 2 if t == "f16" else 4 for t in (k_type, v_type))
    k_groups, v_groups = (2 if t == "q8_0" else 0 for t in (k_type, v_type))

    @njit
    def store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim):
        padded = (v_dim + 15) // 16 * 16
        k_bytes = CELLS * (head_dim * k_size + head_dim // GROUP * k_groups)
        v_bytes = CELLS * (padded * v_size + padded // GROUP * v_groups)
        for head in range(n_head_kv):
            k_to, v_to = k_block + head * k_bytes, v_block + head * v_bytes
            k_scales = k_to + CELLS * head_dim + 2 * cell
            v_scales = v_to + CELLS * padded + cell * (padded // GROUP) * 2
            write_k(k + 4 * head * head_dim, head_dim, k_to + cell * k_size, CELLS, k_scales,
                    CELLS, head_dim)  # fmt: skip
            write_v(v + 4 * head * v_dim, v_dim, v_to + cell * padded * v_size, 1, v_scales, 1,
                    padded)  # fmt: skip

    return store
