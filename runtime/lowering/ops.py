"""Ops that do not declare their operands yet: kernels of recurrent layers and of sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Count, Form, Op, Rows, Span, State, Tiles, fill

Layout = tuple[int, ...]
_NO_COUNT = Count(0, 0)


class RawOp(Op, kernel=""):
    """A kernel with operands by name, and what it reads and writes."""

    def __init__(
        self,
        kernel: str,
        build: Callable[[], Callable[..., None]],
        layout: Layout,
        raw: dict[str, int | NDArray[Any]],
        reads: Sequence[Span],
        writes: Sequence[Span],
        scratch: int = 0,
        state: State | None = None,
    ) -> None:
        self._kernel, self._build, self._layout, self.raw = kernel, build, layout, raw
        self._reads_spans, self._writes_spans, self._scratch = list(reads), list(writes), scratch
        self.state = state
        self.is_producer = False
        self.out: Rows | None = None
        self.tiles: Tiles | None = None

    @property
    def kernel(self) -> str:
        return self._kernel

    def builder(self, isa: Isa) -> Callable[[], Callable[..., None]]:
        return self._build

    def scratch_bytes(self, isa: Isa) -> int:
        return self._scratch

    def words(self) -> NDArray[np.int64]:
        raw = dict(self.raw)
        if self.state is not None:
            raw |= zip(("rows", "row_stride", "pending"), self.state.values, strict=True)
        if self.is_producer:
            raw["tiles"] = self.tiles.address if self.tiles else 0
            if "out" in raw:
                raw["out"] = self.out.address if self.out else 0
        words: NDArray[np.int64] = fill(self._layout, **raw)
        return words

    @property
    def reads(self) -> list[Span]:
        return [*self._reads_spans, *([self.state.span] if self.state else [])]

    @property
    def writes(self) -> list[Span]:
        more = [self.state.span] if self.state else []
        return [*self._writes_spans, *more, *([self.tiles.span] if self.tiles else [])]

    def rows_read(self) -> Iterator[tuple[str, Rows, Form]]:
        for span in self._reads_spans:
            yield "", _rows(span), "floats"

    def rows_written(self) -> Iterator[tuple[str, Rows]]:
        for span in self._writes_spans:
            is_out = self.out is not None and span == self.out.span
            yield ("out", self.out) if is_out and self.out else ("", _rows(span))

    def tiles_field(self, name: str) -> str | None:
        return "tiles" if self.is_producer and name == "out" else None

    def may_omit(self, name: str) -> bool:
        return self.is_producer and name == "out" and "out" in self.raw


def _rows(span: Span) -> Rows:
    return Rows(span.buffer, 0, span.end - span.start, 0, _NO_COUNT, span.start)
