"""Running one recurrent op outside a model: a step's tables, a poisoned pool of rows, a team."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.activations import BLOCK, TILE_ROWS, tile_bytes
from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.team import Program, aligned_zeros

MAX_DRAFTS = 8


def aligned(values) -> np.ndarray:
    """A float32 copy with room for a vector that starts at its last element."""
    values = np.asarray(values, np.float32)
    memory = aligned_zeros(4 * (values.size + 32)).view(np.float32)
    memory[: values.size] = values.reshape(-1)
    memory[values.size :] = np.nan
    return memory


def float_rows(values, padding: int = 16) -> tuple[np.ndarray, int]:
    """Rows [n, width] padded with NaN to a stride, and to whole tiles of 8 rows; returns the array
    and the stride in bytes."""
    n, width = values.shape
    stride = -(-width // 16) * 16 + padding
    rows = np.full((-(-n // 8) * 8, stride), np.nan, np.float32)
    rows[:n, :width] = values
    return aligned(rows), 4 * stride


def tile_rows(tiles: np.ndarray, n_inputs: int, n_rows: int) -> np.ndarray:
    """uint8 [n_rows, blocks, words, 4] of activation tiles; what else is in them means nothing."""
    n_tiles, n_blocks = -(-n_rows // TILE_ROWS), n_inputs // BLOCK
    words = tiles[: n_tiles * tile_bytes(n_inputs)].reshape(n_tiles, n_blocks, -1, TILE_ROWS, 4)
    by_row = words.transpose(0, 3, 1, 2, 4)
    return by_row.reshape(n_tiles * TILE_ROWS, n_blocks, -1, 4)[:n_rows]


def equal_tiles(tiles: np.ndarray, expected: np.ndarray, n_inputs: int, n_rows: int) -> bool:
    """Whether two arrays of tiles hold the same rows."""
    return np.array_equal(*(tile_rows(t, n_inputs, n_rows) for t in (tiles, expected)))


class Bench:
    """A pool of state rows, NaN everywhere, and steps over runs of several sequences."""

    def __init__(self, team, n_state: int, n_pending: int = 0, n_slots: int = 8) -> None:
        self.team, self.n_state = team, n_state
        self.pending_at = -(-n_state // 16) * 16
        self.row_floats = self.pending_at + -(-MAX_DRAFTS * n_pending // 16) * 16 + 16
        self.pending = np.zeros(n_slots, np.int32)
        self.drafts: dict[int, int] = {}  # by slot: how many of its next run's tokens
        self.pool = np.full((n_slots + 2, self.row_floats), np.nan, np.float32)
        self.state_row = np.arange(n_slots, 0, -1).astype(np.int32)  # not the slot's number
        self.fresh = np.ones(n_slots, np.uint8)

    def state(self, slot: int) -> np.ndarray:
        """A slot's state, to read or set."""
        return self.pool[self.state_row[slot], : self.n_state]

    def step(self, runs: list[tuple[int, int]]) -> tuple[np.ndarray, list[np.ndarray]]:
        """STEP words for ``runs`` = [(slot, number of tokens)], and what they point at."""
        seq_drafts = np.array([self.drafts.get(slot, 0) for slot, _ in runs], np.int32)
        slots = np.array([slot for slot, _ in runs], np.int32)
        start = np.cumsum([0, *(n for _, n in runs)]).astype(np.int32)
        words = np.zeros(len(STEP._fields), np.int64)
        for name, value in (
            ("n_tokens", int(start[-1])),
            ("n_seqs", len(runs)),
            ("seq_start", start.ctypes.data),
            ("seq_slot", slots.ctypes.data),
            ("state_row", self.state_row.ctypes.data),
            ("state_fresh", self.fresh.ctypes.data),
            ("state_pending", self.pending.ctypes.data),
            ("seq_drafts", seq_drafts.ctypes.data),
        ):
            words[getattr(STEP, name) // 8] = value
        return words, [slots, start, seq_drafts]

    def run(self, name, build, layout, runs, **operands) -> None:
        """Run the op once; afterwards the slots are not fresh. Rows of other slots stay as
        they were, and so does what follows each row."""
        if "rows" in layout._fields:
            operands |= {"rows": self.pool, "row_stride": 4 * self.row_floats}
            operands |= {"pending": 4 * self.pending_at}
        words, keep = self.step(runs)
        if "n_rows" in layout._fields:
            operands["n_rows"] = words
        before = self.pool.copy()
        address = self.team.kernels.address(name, build)
        program = Program(self.team, words, [(address, fill(layout, **operands), -1)])
        self.team.run(program)
        self.fresh[keep[0]] = 0
        touched = self.state_row[keep[0]]
        others = np.setdiff1d(np.arange(len(self.pool)), touched)
        assert np.array_equal(self.pool[others], before[others], equal_nan=True)
        assert np.isnan(self.pool[:, -16:]).all()
