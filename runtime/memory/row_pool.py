"""The recurrent state rows: those that running sequences write and those kept as checkpoints."""

from __future__ import annotations

from slotmux.runtime.interfaces import Bytes, RowStorage
from slotmux.runtime.memory.prefix_tree import Checkpoint
from slotmux.runtime.memory.segments import Segments
from slotmux.runtime.memory.worth import Worths


class RowPool:
    """Rows are free, in use by a sequence, or checkpoints (given up by worth). Engine thread only.

    ``pending``: of each row, how many accepted drafts its state has yet to be shown. ``n_ready``:
    rows that have memory from the start; others get it by ``bring``.
    """

    __slots__ = ("_free", "_poison", "_storage", "checkpoints", "n_rows", "pending", "worths")

    def __init__(
        self, storage: RowStorage, worths: Worths, n_ready: int | None, *, poison: bool
    ) -> None:
        self._storage = storage
        self._poison = poison
        self.n_rows = storage.n_rows
        self.worths = worths
        self.checkpoints: dict[int, Checkpoint] = {}  # by row
        self.pending = [0] * self.n_rows
        self._free = Segments(self.n_rows, self.n_rows if n_ready is None else n_ready)
        if poison:
            for row in range(self._free.n_present):
                storage.fill_nan(row)

    @property
    def n_free(self) -> int:
        return self._free.n_free

    @property
    def n_present(self) -> int:
        """Rows that have memory."""
        return self._free.n_present

    @property
    def can_bring(self) -> bool:
        """Whether there are rows without memory."""
        return self._free.n_absent > 0

    def bring(self, *, is_ahead: bool = False) -> None:
        """Give a row memory: it is free. ``is_ahead``: it will be taken soon, but not at once."""
        for row in self._free.bring(is_ahead=is_ahead):
            if self._poison:
                self._storage.fill_nan(row)
            elif is_ahead:
                self._storage.prepare_row(row)

    def send_away(self) -> None:
        """Give the memory of a free row back to the system."""
        self._storage.give_back_row(self._free.send_away())

    def take(self) -> int:
        """A free row. There must be one. Its content is never to be read."""
        row = self._free.take()
        self.pending[row] = 0
        return row

    def give_back(self, row: int) -> None:
        """Free a row that is no checkpoint."""
        assert row not in self.checkpoints
        if self._poison:
            self._storage.fill_nan(row)
        self._free.give_back(row)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Turn a row in use into a checkpoint."""
        self.checkpoints[checkpoint.row] = checkpoint
        self.worths.add(checkpoint)

    def unkeep(self, checkpoint: Checkpoint) -> None:
        """Turn a checkpoint back into a row in use by the caller."""
        del self.checkpoints[checkpoint.row]
        self.worths.remove(checkpoint)
        checkpoint.is_kept, checkpoint.before = False, None

    @property
    def row_bytes(self) -> int:
        return self._storage.row_bytes if self.n_rows else 0

    def read(self, row: int) -> Bytes:
        """A copy. Any thread."""
        return self._storage.read_row(row)

    def write(self, row: int, data: Bytes) -> None:
        self._storage.write_row(row, data)

    def copy(self, src: int, dst: int) -> None:
        self._storage.copy_row(src, dst)
        self.pending[dst] = self.pending[src]

    def check_integrity(self, in_use: list[int]) -> None:
        """Raise AssertionError unless every row is exactly one of free, in use, checkpoint."""
        self._free.check_integrity([*in_use, *self.checkpoints])
        assert sorted(self.worths.rows()) == sorted(self.checkpoints)
        for row, checkpoint in self.checkpoints.items():
            assert checkpoint.row == row
            assert checkpoint.node.checkpoints[checkpoint.offset] is checkpoint
