"""Which ops must be finished before an op may begin."""

from __future__ import annotations

from collections.abc import Sequence

from slotmux.kernels.operands import Op, Span


class _Access:
    """What some ops read and write, by buffer."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}

    def add(self, spans: Sequence[Span]) -> None:
        """One more op's."""
        for span in spans:
            self.spans.setdefault(span.buffer, []).append(span)

    def touches(self, spans: Sequence[Span]) -> bool:
        """Whether any of these is among them, in part or whole."""
        return any(
            a.start < b.end and b.start < a.end for a in spans for b in self.spans.get(a.buffer, ())
        )


def derive_waits(ops: Sequence[Op]) -> list[int]:
    """For each op, the first op that must be finished before it (with all that follow), or -1.

    An op waits when it reads what an unfinished op writes, or writes what one reads or writes.
    """
    waits, pending = [], 0
    read, written, must_end = _Access(), _Access(), False
    for i, op in enumerate(ops):
        reads, writes = op.reads, op.writes
        conflict = i > pending and (
            must_end
            or op.changes_step
            or written.touches(reads)
            or written.touches(writes)
            or read.touches(writes)
        )
        waits.append(pending if conflict else -1)
        if conflict:
            pending = i
            read, written = _Access(), _Access()
        read.add(reads)
        written.add(writes)
        must_end = op.changes_step
    return waits
