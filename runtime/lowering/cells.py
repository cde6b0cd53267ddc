"""The unified KV cache's memory: for each attention layer, all blocks of K and of V."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.team import aligned_zeros
from runtime.lowering.buffers import round_up
from runtime.ubatch import BLOCK_CELLS

CELL_TYPES = {"f16": np.float16, "f32": np.float32}


class KVCells:
    """Blocks of 16 cells, shared by all sequences (layouts: kernels/ops/rope.py).

    Only the engine thread copies or poisons; kernels read and write by address.
    """

    def __init__(self, n_blocks: int, cell_type: str) -> None:
        self.cell_type = cell_type
        self._n_blocks = n_blocks
        self._layers: dict[int, tuple[NDArray[np.generic], NDArray[np.generic]]] = {}

    def layer(self, layer: int, n_head_kv: int, head_dim: int, v_dim: int) -> tuple[int, int]:
        """Addresses of a layer's K and V blocks, allocated and touched now."""
        if layer not in self._layers:
            dtype = CELL_TYPES[self.cell_type]
            arrays = []
            for width in (head_dim, round_up(v_dim, 16)):
                n = self._n_blocks * n_head_kv * width * BLOCK_CELLS
                array = aligned_zeros(n * np.dtype(dtype).itemsize, 4096).view(dtype)
                array.fill(0)  # touch every page: no surprise later
                arrays.append(array.reshape(self._n_blocks, -1))
            self._layers[layer] = (arrays[0], arrays[1])
        k, v = self._layers[layer]
        return int(k.ctypes.data), int(v.ctypes.data)

    @property
    def n_blocks(self) -> int:
        """Blocks in the pool; 0 when no layer has attention."""
        return self._n_blocks if self._layers else 0

    @property
    def n_bytes(self) -> int:
        """Memory of all layers."""
        return sum(k.nbytes + v.nbytes for k, v in self._layers.values())

    def copy_block(self, src: int, dst: int) -> None:
        """Copy all cells of a block, every layer."""
        for pair in self._layers.values():
            for array in pair:
                array[dst] = array[src]

    def fill_nan(self, block: int) -> None:
        """Poison a block, so that a stale read shows."""
        for pair in self._layers.values():
            for array in pair:
                array[block] = np.nan
