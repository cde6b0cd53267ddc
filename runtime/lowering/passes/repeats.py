"""What several layers need of a step alike, such as sines of its positions, is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slotmux.kernels.operands import Op


def drop_repeats(ops: Sequence[Op]) -> list[Op]:
    """The ops without those that do again what an earlier one did: the same kernel with the same
    operands, which reads nothing but the step. What it wrote must still stand."""
    kept: list[Op] = []
    done: dict[tuple[Any, ...], set[str]] = {}  # and the buffers it wrote
    for op in ops:
        key = op.identity() if op.is_of_step and op.writes else None
        if key is not None and key in done:
            continue
        kept.append(op)
        if op.changes_step:
            done.clear()
        written = {span.buffer for span in op.writes} if done or key else set()
        for other_key in [k for k, buffers in done.items() if not buffers.isdisjoint(written)]:
            del done[other_key]
        if key is not None:
            done[key] = written
    return kept
