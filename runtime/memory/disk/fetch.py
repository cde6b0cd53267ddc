"""A prefix on its way from disk to memory: asked for on the engine thread, read on another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from slotmux.runtime.interfaces import Bytes
from slotmux.runtime.memory.disk.index import StoredState
from slotmux.runtime.memory.disk.lookup import Part, Sought


@dataclass(frozen=True, slots=True)
class BlocksPiece:
    """Blocks of a path from the ``first`` on: [n, block_bytes]."""

    first: int
    data: Bytes


@dataclass(frozen=True, slots=True)
class StatePiece:
    """The state after ``position`` tokens; ``tail``: the unfinished block's cells [1, block_bytes],
    where there are cells and such a block."""

    position: int
    n_pending: int
    state_kind: str
    row: Bytes
    tail: Bytes | None


Piece = BlocksPiece | StatePiece


class Fetch:
    """``pieces`` pass from the reader to the engine in order; each side changes its own fields.

    ``token_s``: what computing a token takes, so that nothing is read that is computed sooner.
    """

    __slots__ = (
        "began",
        "is_broken",
        "is_cancelled",
        "is_done",
        "is_urgent",
        "n_found",
        "n_installed",
        "n_staged",
        "pieces",
        "pins",
        "salt",
        "sought",
        "todo",
        "token_s",
    )

    def __init__(self, salt: str, sought: Sought, token_s: float, now: float) -> None:
        self.salt = salt
        self.sought = sought
        self.token_s = token_s
        self.began = now  # or when somebody began to wait for it
        self.pieces: deque[Piece] = deque()
        # Of the reader:
        self.n_found = 0  # tokens of the prefix that is being read; 0: nothing worth it
        self.todo: deque[Part | StoredState] = deque()  # what is still to be read
        self.is_done = False  # no further pieces
        # Of the engine:
        self.is_urgent = False  # a slot waits for it
        self.is_cancelled = False
        self.is_broken = False  # it could not be put in place
        self.pins: list[int] = []  # blocks of its path, held until it is over
        self.n_installed = 0  # tokens that are in memory thanks to it, from the beginning on
        # Bytes of the pieces that wait; the reader's lock guards it.
        self.n_staged = 0

    @property
    def is_over(self) -> bool:
        """Nothing more will come of it."""
        return self.is_cancelled or (self.is_done and not self.pieces)

    @property
    def worth_s(self) -> float:
        """What computing what it brings would take; of all that it may bring until it is known."""
        n = (self.n_found or self.sought.limit) - self.sought.n_have
        return n * self.token_s


def piece_bytes(piece: Piece) -> int:
    """Memory that a piece takes."""
    if isinstance(piece, BlocksPiece):
        return piece.data.nbytes
    return piece.row.nbytes + (piece.tail.nbytes if piece.tail is not None else 0)
