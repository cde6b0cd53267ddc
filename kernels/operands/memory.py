"""The memory that ops are given: rows, tiles, tables, cells, states.

Each knows the words by which a kernel finds it, and the span by which ops that touch it wait for
each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Generic, NamedTuple, NewType, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
Vector = NDArray[np.float32]  # of weights, with room behind it for a vector's load
# Of a table that no op writes: one of the step's, which the engine fills in between two runs.
Address = NewType("Address", int)
ANY_ROWS = 1 << 30  # more than a step has


def round_up(n: int, multiple: int) -> int:
    """The smallest multiple that is not below n."""
    return -(-n // multiple) * multiple


class Span(NamedTuple):
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


@dataclass(frozen=True, slots=True)
class Count:
    """A number that only a step knows, such as of its tokens: an int64, read by address. ``most``
    is the largest it can be, ``of`` the table that holds it (None: it is a word of the step)."""

    WORDS: ClassVar = ("{}",)
    address: int
    most: int
    of: Span | None = None

    @property
    def values(self) -> tuple[int]:
        """What the words hold."""
        return (self.address,)

    @property
    def span(self) -> Span | None:
        """What whoever reads it waits for."""
        return self.of


@dataclass(frozen=True, slots=True)
class Rows:
    """Float32 rows [n_rows, width] of a buffer, ``stride`` bytes apart, padded to 16 floats."""

    WORDS: ClassVar = ("{}", "{}_stride")
    buffer: str
    address: int
    width: int
    stride: int
    n_rows: Count
    start: int = 0  # column in the buffer

    @property
    def values(self) -> tuple[int, int]:
        """What the words hold."""
        return self.address, self.stride

    @property
    def span(self) -> Span:
        """The columns, for dependencies."""
        return Span(self.buffer, self.start, self.start + round_up(self.width, 16))

    def columns(self, start: int, width: int) -> Rows:
        """A part of the rows; ``start`` counts floats."""
        at = self.address + 4 * start
        return Rows(self.buffer, at, width, self.stride, self.n_rows, self.start + start)


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Rows rounded to BF16 as kernels/ops/dense/narrow.py leaves them: ``width`` counts floats in
    whose place columns stand."""

    WORDS: ClassVar = ("{}", "{}_stride")
    buffer: str
    address: int
    width: int
    stride: int
    n_rows: Count

    @property
    def values(self) -> tuple[int, int]:
        """What the words hold."""
        return self.address, self.stride

    @property
    def span(self) -> Span:
        """All of them, for dependencies."""
        return Span(self.buffer)


@dataclass(frozen=True, slots=True)
class Tiles:
    """8-bit activations [n_rows, width] as kernels/activations.py lays them out."""

    WORDS: ClassVar = ("{}",)
    buffer: str
    address: int
    width: int
    n_rows: Count

    @property
    def values(self) -> tuple[int]:
        """What the words hold."""
        return (self.address,)

    @property
    def span(self) -> Span:
        """All of them, for dependencies."""
        return Span(self.buffer)


@dataclass(frozen=True, slots=True, eq=False)
class Table(Generic[Scalar]):
    """An array that ops write and read, of one element type."""

    WORDS: ClassVar = ("{}",)
    name: str
    array: NDArray[Scalar]

    @property
    def address(self) -> int:
        """Of the first element."""
        return int(self.array.ctypes.data)

    @property
    def values(self) -> tuple[int]:
        """What the words hold."""
        return (self.address,)

    @property
    def span(self) -> Span:
        """All of it, for dependencies."""
        return Span(self.name)


@dataclass(frozen=True, slots=True)
class Cells:
    """One layer's K and V in the KV cache: addresses of their blocks, and types of their values
    (layouts: kernels/ops/attention/cells.py)."""

    WORDS: ClassVar = ("k_{}", "v_{}")
    layer: int
    k: int
    v: int
    k_type: str
    v_type: str

    @property
    def values(self) -> tuple[int, int]:
        """What the words hold."""
        return self.k, self.v

    @property
    def span(self) -> Span:
        """All of them, for dependencies."""
        return Span(f"cells{self.layer}")


@dataclass(slots=True)
class StatePool:
    """Where the rows of recurrent state are, and bytes from one to the next; 0 until they are
    made, which is after a model was lowered."""

    address: int = 0
    stride: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """One op's float32 within every sequence's row: ``n_floats`` of state at byte ``offset``, and
    ``pending`` bytes behind their begin what is kept of drafts (kernels/ops/recurrent/frame.py).

    Its words: address in row 0, bytes from a row to the next, bytes from the state to the drafts.
    """

    WORDS: ClassVar = ("rows", "row_stride", "pending")
    pool: StatePool = field(repr=False, compare=False)
    offset: int
    n_floats: int
    pending: int

    @property
    def values(self) -> tuple[int, int, int]:
        """What the words hold."""
        assert self.pool.address, "the rows were not made"
        return self.pool.address + self.offset, self.pool.stride, self.pending

    @property
    def span(self) -> Span:
        """The columns, for dependencies."""
        return Span("rows", self.offset, self.offset + 4 * self.n_floats)
