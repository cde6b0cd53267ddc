"""An op of a program, and the waits between ops that follow from what they read and write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from slotmux.runtime.lowering.buffers import Span

# Where each word of an op stands: byte offsets, with the words' names as attributes, which no type
# checker knows.
Layout = tuple[int, ...]


@dataclass(slots=True)
class Op:
    """A kernel with operands that may still be completed, and what it reads and writes."""

    kernel: str
    build: Callable[[], Callable[..., None]]
    layout: Layout
    operands: dict[str, int | NDArray[Any]]
    reads: list[Span]
    writes: list[Span]
    scratch: int = 0  # bytes of a thread's working memory
    has_state: bool = False  # operands "rows" and "row_stride" are completed by the builder
    changes_step: bool = False  # all ops before it must be finished, and none after it begun


def derive_waits(ops: Sequence[Op]) -> list[int]:
    """For each op, the first op that must be finished before it (with all that follow), or -1.

    An op waits when it reads what an unfinished op writes, or writes what one reads or writes.
    """
    waits, pending = [], 0
    for i, op in enumerate(ops):
        conflict = any(
            earlier.changes_step
            or op.changes_step
            or any(
                a.overlaps(b)
                for a, b in (
                    *((w, r) for w in earlier.writes for r in (*op.reads, *op.writes)),
                    *((r, w) for r in earlier.reads for w in op.writes),
                )
            )
            for earlier in ops[pending:i]
        )
        waits.append(pending if conflict else -1)
        if conflict:
            pending = i
    return waits
