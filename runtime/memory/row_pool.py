"""The recurrent state rows: those that running sequences write and those kept as checkpoints."""

from __future__ import annotations

from slotmux.runtime.interfaces import Bytes, RowStorage
from slotmux.runtime.memory.prefix_tree import Checkpoint
from slotmux.runtime.memory.worth import Worths


class RowPool:
    """Rows are free, in use by a sequence, or checkpoints (evicted by worth). Engine thread only.

    ``pending``: of each row, how many accepted drafts its state has yet to be shown.
    """

    __slots__ = ("_free", "_poison", "_storage", "checkpoints", "n_rows", "pending", "worths")

    def __init__(self, storage: RowStorage, *, poison: bool) -> None:
        self._storage = storage
        self._poison = poison
        self.n_rows = storage.n_rows
        self._free = list(range(self.n_rows - 1, -1, -1))
        self.worths = Worths()
        self.checkpoints: dict[int, Checkpoint] = {}  # by row
        self.pending = [0] * self.n_rows
        if poison:
            for row in self._free:
                storage.fill_nan(row)

    @property
    def n_free(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """A free row. There must be one. Its content is never to be read."""
        row = self._free.pop()
        self.pending[row] = 0
        return row

    def give_back(self, row: int) -> None:
        """Free a row that is no checkpoint."""
        assert row not in self.checkpoints
        if self._poison:
            self._storage.fill_nan(row)
        self._free.append(row)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Turn a row in use into a checkpoint."""
        self.checkpoints[checkpoint.row] = checkpoint
        self.worths.add(checkpoint)

    def unkeep(self, checkpoint: Checkpoint) -> None:
        """Turn a checkpoint back into a row in use by the caller."""
        del self.checkpoints[checkpoint.row]
        self.worths.remove(checkpoint)
        checkpoint.is_kept, checkpoint.before = False, None

    def give_up(self, besides: Checkpoint | None = None) -> Checkpoint | None:
        """The checkpoint to evict now, if there is one other than ``besides``."""
        row = self.worths.give_up(besides.row if besides is not None else -1)
        return self.checkpoints[row] if row >= 0 else None

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
        everywhere = sorted([*self._free, *in_use, *self.checkpoints])
        assert everywhere == list(range(self.n_rows)), "rows leaked or shared"
        assert sorted(self.worths.keys()) == sorted(self.checkpoints)
        for row, checkpoint in self.checkpoints.items():
            assert checkpoint.row == row
            assert checkpoint.node.checkpoints[checkpoint.offset] is checkpoint
