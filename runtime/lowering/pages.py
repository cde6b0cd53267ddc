"""Memory whose pages come when they are first written and can be given back one by one."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress

import numpy as np

from slotmux.runtime.lowering.buffers import round_up

PAGE = 4096
HUGE_PAGE = 2 << 20
POPULATE_WRITE = 23  # of <linux/mman.h>, since Linux 5.14


class Pages:
    """``n_bytes`` zeroed bytes that take no memory until they are written.

    ``page``: what comes and goes as one, PAGE or HUGE_PAGE. Of a huge page a part could not be
    given back, and more than what was written would be there: only for what fills huge pages whole.
    The first write of 20 MB takes 3 ms by huge pages, 10 by small ones.
    """

    def __init__(self, n_bytes: int, page: int = PAGE) -> None:
        self.n_bytes, self.page = n_bytes, page
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, round_up(max(n_bytes, 1), page) + page - PAGE, flags)
        with suppress(OSError):  # a system that has no huge pages knows neither advice
            self._map.madvise(mmap.MADV_NOHUGEPAGE if page == PAGE else mmap.MADV_HUGEPAGE)
        whole = np.frombuffer(self._map, np.uint8)
        self._begin = int(-whole.ctypes.data % page)
        self.array = whole[self._begin :]

    def populate(self, begin: int, end: int) -> bool:
        """Have the pages of these bytes come now; what is in them stays. Any thread, whatever
        others do with the bytes meanwhile; the GIL is free. False on an older Linux: they come as
        they are written."""
        begin_address = ctypes.c_void_p(self.array.ctypes.data + begin)
        n_bytes = ctypes.c_size_t(end - begin)
        return bool(ctypes.CDLL(None).madvise(begin_address, n_bytes, POPULATE_WRITE) == 0)

    def give_back(self, begin: int, end: int) -> None:
        """The pages of these bytes go; read again they are zero. ``begin`` is a page's border."""
        assert begin % self.page == 0
        n = round_up(end, self.page) - begin
        self._map.madvise(mmap.MADV_DONTNEED, self._begin + begin, n)
