"""Memory whose pages come when they are first written and can be given back one by one."""

from __future__ import annotations

import mmap

import numpy as np

from slotmux.runtime.lowering.buffers import round_up

PAGE = 4096


class Pages:
    """``n_bytes`` zeroed bytes that take no memory until they are written.

    Small pages: of huge ones a part could not be given back, and more than what was written would
    be there.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, round_up(max(n_bytes, 1), PAGE), flags)
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.array = np.frombuffer(self._map, np.uint8)

    def give_back(self, begin: int, end: int) -> None:
        """The pages of these bytes go; read again they are zero. ``begin`` is a page's border."""
        assert begin % PAGE == 0
        self._map.madvise(mmap.MADV_DONTNEED, begin, round_up(end, PAGE) - begin)
