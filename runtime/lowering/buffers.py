"""Working memory of a program: float rows and 8-bit activation tiles, one row a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.activations import TILE_ROWS, tile_bytes
from slotmux.kernels.team import aligned_zeros


def round_up(n: int, multiple: int) -> int:
    """The smallest multiple that is not below n."""
    return -(-n // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Span:
    """Columns ``start`` to ``end`` of a named buffer: what an op reads or writes."""

    buffer: str
    start: int = 0
    end: int = 1 << 62

    def overlaps(self, other: Span) -> bool:
        """Whether both touch a common column."""
        return self.buffer == other.buffer and self.start < other.end and other.start < self.end

    def covers(self, other: Span) -> bool:
        """Whether all of the other's columns are among these."""
        return self.buffer == other.buffer and self.start <= other.start and other.end <= self.end


@dataclass(slots=True)
class Rows:
    """Float32 rows [n_rows, width] of a buffer, rows ``stride`` bytes apart, padded to 16 floats.

    ``tiles`` and ``floats`` have the rows' producer write the form that a consumer takes.
    """

    buffer: str
    address: int
    width: int
    stride: int
    start: int = 0  # column in the buffer
    want_tiles: Callable[[], int] | None = None
    want_floats: Callable[[], None] | None = None
    _tiles: int = field(default=0)
    _bf16: Rows | None = field(default=None)

    @property
    def span(self) -> Span:
        """The columns, for dependencies."""
        return Span(self.buffer, self.start, self.start + round_up(self.width, 16))

    @property
    def tiles_span(self) -> Span:
        """The 8-bit form, for dependencies."""
        return Span(self.buffer + ":tiles")

    def columns(self, start: int, width: int) -> Rows:
        """A part of the rows; ``start`` counts floats."""
        return Rows(self.buffer, self.address + 4 * start, width, self.stride, self.start + start)

    def tiles(self) -> int:
        """Address of the rows as 8-bit tiles; 0 when the producer cannot make them."""
        if not self._tiles and self.want_tiles is not None:
            self._tiles = self.want_tiles()
        return self._tiles

    def floats(self) -> Rows:
        """The rows themselves; tells the producer that they are wanted."""
        if self.want_floats is not None:
            self.want_floats()
            self.want_floats = None
        return self


class Buffers:
    """Buffers by name; a name used again (by the next layer) is the same memory."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = round_up(n_rows, TILE_ROWS)
        self.n_bytes = 0
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def _bytes(self, name: str, n_bytes: int) -> int:
        array = self._arrays.get(name)
        if array is None:
            self._arrays[name] = array = aligned_zeros(n_bytes)
            self.n_bytes += n_bytes
        assert array.nbytes >= n_bytes, f"buffer {name} was made smaller"
        return int(array.ctypes.data)

    def rows(self, name: str, width: int, n_rows: int = 0) -> Rows:
        """Float rows [n_rows (default: an ubatch), width]."""
        padded = round_up(width, 16)
        n_rows = round_up(n_rows or self.n_rows, TILE_ROWS)
        # 16 more floats: a vector that starts in the last row may end past it.
        name = f"{name}[{padded}x{n_rows}]"
        address = self._bytes(name, 4 * (n_rows * padded + 16))
        return Rows(name, address, width, 4 * padded)

    def tiles(self, name: str, n_inputs: int, n_rows: int = 0) -> int:
        """Address of 8-bit tiles of n_inputs."""
        n_tiles = round_up(n_rows or self.n_rows, TILE_ROWS) // TILE_ROWS
        return self._bytes(f"{name}:tiles[{n_inputs}]", n_tiles * tile_bytes(n_inputs))

    def words(self, name: str, n_words: int, dtype: type = np.int64) -> NDArray[np.int64]:
        """A table that ops write and read."""
        self._bytes(name, n_words * 8)
        return self._arrays[name].view(dtype)

    def fill_nan(self) -> None:
        """Poison the memory of rows: what no op has written must not be read."""
        for name, array in self._arrays.items():
            if name.endswith("]") and ":tiles" not in name:
                array.view(np.float32)[:] = np.nan

    def padded_rows(self, n_rows: int) -> int:
        """Rows that a buffer for ``n_rows`` has."""
        return round_up(n_rows, TILE_ROWS)

    def array(self, name: str) -> NDArray[np.uint8]:
        """The memory of a buffer, for reading results."""
        return self._arrays[name]
