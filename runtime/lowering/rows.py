"""The pool of state rows: what each sequence carries through the recurrent layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.team import aligned_zeros
from runtime.lowering.buffers import round_up


class StateRows:
    """Rows of float32, one a sequence or checkpoint; a layer owns a range of columns.

    Layers reserve columns while the model is lowered; ``allocate`` then makes the memory.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._n_columns = 0
        self._array: NDArray[np.float32] = np.zeros((n_rows, 0), np.float32)

    def reserve(self, n_floats: int) -> int:
        """Claim columns for a layer; returns the byte offset of the first in every row."""
        offset = self._n_columns
        self._n_columns += round_up(n_floats, 16)
        return 4 * offset

    def allocate(self) -> tuple[int, int]:
        """Make the rows; returns their address and the bytes from one to the next."""
        width = self.row_bytes // 4
        memory = aligned_zeros(4 * self._n_rows * width).view(np.float32)
        memory.fill(0.0)  # touch every page: no surprise later
        self._array = memory.reshape(self._n_rows, width)
        return int(memory.ctypes.data), 4 * width

    @property
    def n_rows(self) -> int:
        """Rows in the pool; 0 when no layer is recurrent."""
        return self._n_rows if self._n_columns else 0

    @property
    def row_bytes(self) -> int:
        """Memory of one row."""
        return 4 * round_up(self._n_columns, 16)

    @property
    def n_bytes(self) -> int:
        """Memory of all rows."""
        return self._array.nbytes

    def copy_row(self, src: int, dst: int) -> None:
        """Copy one sequence's whole recurrent state."""
        self._array[dst] = self._array[src]

    def fill_nan(self, row: int) -> None:
        """Poison a row, so that a stale read shows."""
        self._array[row] = np.nan
