"""What is made when it is first asked for: an encoder of a large vocabulary takes a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Deferred(Generic[T]):
    """Calling it gives what ``make`` makes. Safe on any thread: one makes it, others wait."""

    def __init__(self, make: Callable[[], T]) -> None:
        """``make`` does not fail: what could be wrong was looked at before."""
        self._make: Callable[[], T] | None = make
        self._made: list[T] = []
        self._lock = threading.Lock()

    def __call__(self) -> T:
        if not self._made:
            with self._lock:
                if self._make is not None:
                    self._made.append(self._make())
                    self._make = None  # and what it was made of
        return self._made[0]
