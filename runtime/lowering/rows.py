"""The pool of state rows: what each sequence carries through the recurrent layers.

Behind its state, each layer keeps the inputs of drafts that a verified step may have accepted
(kernels/ops/recurrent/frame.py)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import State, StatePool
from slotmux.kernels.team import aligned_zeros
from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.lowering.buffers import round_up
from slotmux.runtime.lowering.pages import HUGE_PAGE, PAGE, Pages
from slotmux.runtime.numa import Placement


class StateRows:
    """Rows of float32, one a sequence or checkpoint; a layer owns a range of columns.

    Layers reserve columns while the model is lowered; the memory is made when it is first asked
    for. ``max_drafts``: tokens of one sequence that one step may verify. ``n_more``: rows beside
    ``n_ready`` ones; ``is_elastic``: their pages are taken when they are first written, and can be
    given back.
    """

    def __init__(
        self, n_ready: int, max_drafts: int = 0, n_more: int = 0, *, is_elastic: bool = False
    ) -> None:
        self._n_ready, self._n_rows = n_ready, n_ready + n_more
        self._pages: Pages | None = None
        self._is_elastic = is_elastic
        self._thread = ThreadPoolExecutor(1)
        self._preparing: dict[int, Future[bool]] = {}
        self._max_drafts = max_drafts
        self._states: list[tuple[int, int]] = []
        self._n_columns = 0
        self._pool = StatePool()
        self._array: NDArray[np.float32] = np.zeros((self._n_rows, 0), np.float32)

    def reserve(self, n_state: int, n_pending: int) -> State:
        """Claim columns for a layer: its state, and ``n_pending`` floats for each draft."""
        offset, width = self._n_columns, round_up(n_state, 16)
        self._n_columns += width + round_up(self._max_drafts * n_pending, 16)
        self._states.append((offset, n_state))
        return State(self._pool, 4 * offset, n_state, 4 * width)

    def make(self) -> None:
        """Have the memory, if it was not there and a layer wants any; states know where it is."""
        width = self.row_bytes // 4
        if width and not self._array.size:
            n_bytes = 4 * self._n_rows * width
            n_ready = self._n_rows
            if self._is_elastic:
                self._pages, n_ready = Pages(n_bytes, self._page), self._n_ready
                memory = self._pages.array[:n_bytes].view(np.float32)
            else:
                memory = aligned_zeros(n_bytes).view(np.float32)
            self._array = memory.reshape(self._n_rows, width)
            self._array[:n_ready] = 0.0  # touch every page: no surprise later
            self._pool.address, self._pool.stride = int(self._array.ctypes.data), 4 * width

    def place(self, placement: Placement) -> None:
        """Any thread computes any sequence's state: pages are spread."""
        placement.spread(int(self._array.ctypes.data), self._array.nbytes)

    @property
    def n_rows(self) -> int:
        """Rows in the pool; 0 when no layer is recurrent."""
        return self._n_rows if self._n_columns else 0

    @property
    def n_ready(self) -> int:
        """Rows whose pages are there from the start."""
        return self._n_ready if self._n_columns else 0

    @property
    def row_bytes(self) -> int:
        """Memory of one row."""
        return round_up(4 * self._n_columns, self._page if self._is_elastic else 64)

    @property
    def _page(self) -> int:
        """Huge pages for rows that fill them but for a sixteenth: a state is taken sooner."""
        used = 4 * self._n_columns
        return HUGE_PAGE if round_up(used, HUGE_PAGE) - used <= used // 16 else PAGE

    @property
    def n_bytes(self) -> int:
        """Memory of the rows that are there from the start."""
        return self.row_bytes * (self._n_ready if self._pages is not None else self._n_rows)

    def prepare_row(self, row: int) -> None:
        """Have a row's pages come, by a thread: fresh memory may take 50 ms for 20 MB where a
        hypervisor has to find it."""
        assert self._pages is not None
        span = (row * self.row_bytes, (row + 1) * self.row_bytes)
        self._preparing[row] = self._thread.submit(self._pages.populate, *span)

    def give_back_row(self, row: int) -> None:
        """A row loses its pages."""
        assert self._pages is not None
        if (preparing := self._preparing.pop(row, None)) is not None and not preparing.cancel():
            preparing.result()  # else pages would come that nobody gives back
        self._pages.give_back(row * self.row_bytes, (row + 1) * self.row_bytes)

    def state(self, row: int) -> NDArray[np.float32]:
        """A copy of a row without what is kept of drafts, for comparing."""
        return np.concatenate([self._array[row, at : at + n] for at, n in self._states])

    def copy_row(self, src: int, dst: int) -> None:
        """Copy one sequence's whole recurrent state."""
        self._array[dst] = self._array[src]

    def read_row(self, row: int) -> Bytes:
        """One sequence's whole recurrent state, with what is kept of drafts: a copy. Any thread."""
        copy: Bytes = self._array[row].copy().view(np.uint8)
        return copy

    def write_row(self, row: int, data: Bytes) -> None:
        """What ``read_row`` gave, into any row."""
        self._array[row].view(np.uint8)[:] = data

    def fill_nan(self, row: int) -> None:
        """Poison a row, so that a stale read shows."""
        self._array[row] = np.nan
