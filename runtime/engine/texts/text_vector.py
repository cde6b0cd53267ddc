"""What is known of a text's vector while its tokens are computed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.pooling import Pooling

F32 = NDArray[np.float32]


@dataclass(slots=True)
class TextVector:
    """What is known of a text's vector so far."""

    pooling: Pooling
    n_tokens: int  # of the text
    n_seen: int = 0  # of them, those whose rows were taken
    total: F32 | None = None
    rows: list[F32] = field(default_factory=list)

    @property
    def most_reused(self) -> int:
        """Tokens that may come from the prefix cache: the others' rows are wanted."""
        needs_all = self.pooling in (Pooling.MEAN, Pooling.CLS, Pooling.NONE)
        return self.n_seen if needs_all else self.n_tokens - 1

    def wanted(self, begin: int, end: int) -> range:
        """Positions between ``begin`` and ``end`` whose rows are wanted."""
        if self.pooling is Pooling.CLS:
            return range(begin, min(end, 1))
        if self.pooling in (Pooling.MEAN, Pooling.NONE):
            return range(max(begin, self.n_seen), min(end, self.n_tokens))
        return range(max(begin, self.n_tokens - 1), min(end, self.n_tokens))

    def take(self, rows: F32) -> None:
        """Rows of the next wanted positions, in their order: sums do not depend on how a text was
        cut into steps."""
        self.n_seen += len(rows)
        if self.pooling is not Pooling.MEAN:
            self.rows.append(rows)
            return
        if self.total is None:
            self.total = np.zeros(rows.shape[1], np.float32)
        for row in rows:
            self.total += row

    def vector(self) -> F32:
        """Once the text is computed."""
        if self.pooling is Pooling.MEAN:
            assert self.total is not None
            mean: F32 = self.total / np.float32(self.n_tokens)
            return mean
        rows = np.concatenate(self.rows)
        return rows if self.pooling is Pooling.NONE else rows[0]
