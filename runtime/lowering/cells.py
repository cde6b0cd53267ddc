"""The unified KV cache's memory: for each attention layer, all blocks of K and of V, and of what
else belongs to its cells."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import gcd

import numpy as np

from slotmux.kernels.operands import Cells, Table
from slotmux.kernels.ops.attention.cells import GROUP, LATENT, WORDS, head_bytes
from slotmux.kernels.team import aligned_zeros
from slotmux.runtime.errors import ConfigError
from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.lowering.buffers import round_up
from slotmux.runtime.lowering.pages import PAGE, Pages
from slotmux.runtime.numa import Placement


class KVCells:
    """Blocks of 16 cells, shared by all sequences (layouts: kernels/ops/attention/cells.py).

    Only the engine thread writes or poisons; kernels read and write by address. ``n_more``: blocks
    beside ``n_ready`` ones, whose pages are taken when they are first written. ``is_elastic``: the
    pages of any can be given back.
    """

    def __init__(
        self, n_ready: int, k_type: str, v_type: str, n_more: int = 0, *, is_elastic: bool = False
    ) -> None:
        self.k_type, self.v_type = k_type, v_type
        self._n_ready, self._n_blocks = n_ready, n_ready + n_more
        self._is_elastic = is_elastic
        self._layers: dict[int, tuple[Bytes, ...]] = {}
        self._index: dict[int, Table[np.float32]] = {}
        self._arrays: list[Bytes] = []  # all of them, [blocks, bytes of a block]
        self._pages: list[Pages] = []

    def layer(self, layer: int, n_head_kv: int, head_dim: int, v_dim: int) -> Cells:
        """A layer's K and V blocks."""
        if layer not in self._layers:
            k = self._blocks("cache_type_k", self.k_type, n_head_kv, head_dim, head_dim)
            v = self._blocks("cache_type_v", self.v_type, n_head_kv, v_dim, round_up(v_dim, 16))
            self._layers[layer] = (k, v)
        k, v = self._layers[layer]
        return Cells(layer, int(k.ctypes.data), int(v.ctypes.data), self.k_type, self.v_type)

    def latent(self, layer: int, dim: int, width: int) -> Cells:
        """A layer's latent blocks (kernels/ops/attention/latent.py), of K's type: V is the first
        part of K. ``dim``: dimensions of a cell, in ``width`` places."""
        if self.k_type == WORDS:
            raise ConfigError("cache_type_k", f"cannot be {WORDS}: this model's cells are latents")
        if layer not in self._layers:
            memory = self._blocks("cache_type_k", self.k_type, 1, dim, width)
            self._layers[layer] = (memory,)
        (memory,) = self._layers[layer]
        return Cells(layer, int(memory.ctypes.data), 0, self.k_type, LATENT)

    def index(self, layer: int, n_floats: int) -> Table[np.float32]:
        """What a layer knows of whole blocks of positions (kernels/ops/attention/index.py):
        ``n_floats`` beside every block of cells, of whatever type those are."""
        if layer not in self._index:
            memory = self._memory(4 * n_floats).view(np.float32).reshape(-1)
            self._index[layer] = Table(f"index{layer}", memory)
        return self._index[layer]

    def _blocks(self, field: str, cell_type: str, n_head_kv: int, dim: int, width: int) -> Bytes:
        if cell_type == "q8_0" and dim % GROUP:
            reason = f"cannot be q8_0: q8_0 needs heads of a multiple of {GROUP}, not {dim}"
            raise ConfigError(field, reason)
        return self._memory(n_head_kv * head_bytes(cell_type, width))

    def _memory(self, n_bytes: int) -> Bytes:
        """So many bytes for every block."""
        if self._is_elastic:
            self._pages.append(Pages(self._n_blocks * n_bytes))
            memory = self._pages[-1].array[: self._n_blocks * n_bytes]
        else:
            memory = aligned_zeros(self._n_blocks * n_bytes, PAGE)
        self._arrays.append(memory.reshape(self._n_blocks, n_bytes))
        return self._arrays[-1]

    def place(self, placement: Placement) -> None:
        """Before ``touch``: any thread reads any sequence's cells, so pages are spread."""
        for array in self._arrays:
            placement.spread(int(array.ctypes.data), array.nbytes)

    def touch(self) -> None:
        """Have the system give every page of what slots were promised now, on several threads: no
        surprise later."""
        arrays = [array[: self._n_ready] for array in self._arrays]
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda array: array.fill(0), arrays):
                pass

    @property
    def n_blocks(self) -> int:
        """Blocks in the pool; 0 when no layer has attention."""
        return self._n_blocks if self._arrays else 0

    @property
    def n_ready(self) -> int:
        """Of them those that slots were promised."""
        return self._n_ready if self._arrays else 0

    @property
    def n_segment(self) -> int:
        """Neighbouring blocks that fill whole pages in every layer."""
        if not self._is_elastic:
            return 1
        widths = [array.shape[1] for array in self._arrays]
        return max((PAGE // gcd(PAGE, width) for width in widths), default=1)

    def give_back_blocks(self, first: int, n: int) -> None:
        """Blocks lose their pages; ``first`` and ``n`` are multiples of ``n_segment``."""
        for pages in self._pages:
            width = pages.n_bytes // self._n_blocks
            pages.give_back(first * width, min(first + n, self._n_blocks) * width)

    @property
    def n_bytes(self) -> int:
        """Memory of what slots were promised, all layers."""
        return self.block_bytes * self._n_ready

    def copy_block(self, src: int, dst: int) -> None:
        """Copy all cells of a block, every layer."""
        for array in self._arrays:
            array[dst] = array[src]

    @property
    def block_bytes(self) -> int:
        """Memory of one block, every layer."""
        return sum(array.shape[1] for array in self._arrays)

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """All cells of some blocks, every layer: a copy [n, block_bytes]. Any thread."""
        data = np.empty((len(blocks), self.block_bytes), np.uint8)
        chosen, begin = np.asarray(blocks, np.intp), 0
        for array in self._arrays:
            end = begin + array.shape[1]
            data[:, begin:end] = array[chosen]
            begin = end
        return data

    def write_blocks(self, blocks: Sequence[int], data: Bytes) -> None:
        """What ``read_blocks`` gave, into any blocks."""
        chosen, begin = np.asarray(blocks, np.intp), 0
        for array in self._arrays:
            end = begin + array.shape[1]
            array[chosen] = data[:, begin:end]
            begin = end

    def fill_nan(self, block: int) -> None:
        """Poison a block, so that a stale read shows."""
        for array in self._arrays:
            array[block] = 0xFF  # a NaN in every float type
