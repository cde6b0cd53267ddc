"""Working memory of a program: float rows, 8-bit activation tiles, tables of an ubatch's sizes."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.activations import TILE_ROWS, tile_bytes
from slotmux.kernels.operands import STEP, Count, Narrowed, Rows, Span, Table, Tiles, round_up
from slotmux.kernels.team import aligned_zeros

__all__ = ["Buffers", "Rows", "Span", "round_up", "step_count"]
Scalar = TypeVar("Scalar", bound=np.generic)


def step_count(step: NDArray[np.int64], word: str, most: int) -> Count:
    """A number in a word of the step, such as n_tokens, that is at most ``most``."""
    return Count(int(step.ctypes.data) + int(getattr(STEP, word)), most)


class Buffers:
    """Buffers by name; a name used again (by the next layer) is the same memory. ``tokens``: how
    many rows there are where nothing else is said."""

    def __init__(self, tokens: Count) -> None:
        self.tokens = tokens
        self.n_rows = round_up(tokens.most, TILE_ROWS)
        self.n_bytes = 0
        self._arrays: dict[str, NDArray[np.uint8]] = {}
        self._tables: dict[str, Table[Any]] = {}

    def _bytes(self, name: str, n_bytes: int) -> int:
        array = self._arrays.get(name)
        if array is None:
            self._arrays[name] = array = aligned_zeros(n_bytes)
            self.n_bytes += n_bytes
        assert array.nbytes >= n_bytes, f"buffer {name} was made smaller"
        return int(array.ctypes.data)

    def rows(self, name: str, width: int, n_rows: Count | None = None) -> Rows:
        """Float rows [n_rows, width]."""
        padded, count = round_up(width, 16), n_rows or self.tokens
        most = round_up(count.most, TILE_ROWS)
        # 16 more floats: a vector that starts in the last row may end past it.
        name = f"{name}[{padded}x{most}]"
        address = self._bytes(name, 4 * (most * padded + 16))
        return Rows(name, address, width, 4 * padded, count)

    def tiles(self, rows: Rows) -> Tiles:
        """Room for the same as 8-bit activations."""
        return self.tiles_alone(f"{rows.buffer}@{rows.start}", rows.width, rows.n_rows)

    def tiles_alone(self, name: str, width: int, n_rows: Count) -> Tiles:
        """8-bit activations [n_rows, width] that are nowhere floats."""
        most = round_up(n_rows.most, TILE_ROWS)
        name = f"{name}:tiles[{width}x{most}]"
        address = self._bytes(name, most // TILE_ROWS * tile_bytes(width))
        return Tiles(name, address, width, n_rows)

    def narrowed(self, rows: Rows, width: int) -> Narrowed:
        """Room for the same rounded to BF16, which takes as much as ``width`` floats."""
        made = self.rows(f"{rows.buffer}@{rows.start}:bf16", width, rows.n_rows)
        return Narrowed(made.buffer, made.address, width, made.stride, made.n_rows)

    def table(self, name: str, n: int, dtype: type[Scalar]) -> Table[Scalar]:
        """An array [n] that ops write and read."""
        if name not in self._tables:
            self._bytes(name, round_up(n * np.dtype(dtype).itemsize, 8))
            self._tables[name] = Table(name, self._arrays[name].view(dtype)[:n])
        table: Table[Scalar] = self._tables[name]
        assert table.array.size >= n, f"table {name} was made smaller"
        return table

    def fill_nan(self) -> None:
        """Poison the memory of rows: what no op has written must not be read."""
        for name, array in self._arrays.items():
            if name.endswith("]") and ":tiles" not in name:
                array.view(np.float32)[:] = np.nan

    def array(self, name: str) -> NDArray[np.uint8]:
        """The memory of a buffer, for reading results."""
        return self._arrays[name]
