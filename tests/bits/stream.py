"""Numbers out of a hash function: the same on every machine and with every version of NumPy."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stream:
    """Stands in for NumPy's generator where tests make weights: whole numbers and float64."""

    def __init__(self, name: str) -> None:
        self._name, self._n_calls = name, 0

    def _words(self, n: int) -> NDArray[np.uint64]:
        self._n_calls += 1
        source = hashlib.shake_128(f"{self._name}/{self._n_calls}".encode())
        return np.frombuffer(source.digest(8 * n), "<u8").astype(np.uint64)

    def integers(self, low: int, high: int, size: Any = (), dtype: Any = np.int64) -> NDArray[Any]:
        """From low to high - 1."""
        values = self._words(int(np.prod(size))) % np.uint64(high - low)
        return (values.astype(np.int64) + low).astype(dtype).reshape(size)

    def normal(self, size: Any = ()) -> NDArray[np.float64]:
        """Sums of four numbers of 16 bits, around 0 and about 1 in size: exact in every step."""
        words = self._words(int(np.prod(size)))
        parts = [(words >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)]
        total = sum(part.astype(np.int64) for part in parts) - 2 * 0xFFFF
        return (total / 2.0**15).reshape(size)
