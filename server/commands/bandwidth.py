"""How many bytes a second this machine's threads can read from memory together."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
from numpy.typing import NDArray

MIN_BYTES = 256 * 2**20
MAX_BYTES = 2 * 2**30
N_PASSES = 8

Words = NDArray[np.uint64]


def measure_bandwidth(n_threads: int, n_bytes: int | None = None) -> float:
    """Bytes a second of streaming reads by ``n_threads``, best of several passes, each over an
    array that no cache holds. Takes about a second and up to 2 GiB for that time."""
    if n_bytes is None:
        n_bytes = min(max(4 * _last_level_cache_bytes(), MIN_BYTES), MAX_BYTES)
    read = _compile_reader()
    n_words = max(n_bytes // 8 // n_threads, 1)
    barrier = Barrier(n_threads)

    def worker() -> list[tuple[float, float]]:
        words = np.ones(n_words, np.uint64)  # written here: its pages are near this thread
        passes = []
        for _ in range(N_PASSES):
            barrier.wait()
            start = time.perf_counter()
            total = read(words)
            passes.append((start, time.perf_counter()))
            assert total == n_words
        return passes

    with ThreadPoolExecutor(n_threads) as pool:
        spans = [future.result() for future in [pool.submit(worker) for _ in range(n_threads)]]
    seconds = (
        max(end for _, end in together) - min(start for start, _ in together)
        for together in zip(*spans, strict=True)
    )
    return float(n_words * 8 * n_threads / min(seconds))


def _compile_reader() -> Callable[[Words], int]:
    """A sum of words without the GIL. Integer sums may be reordered, so LLVM makes them as wide
    as the CPU's registers; a NumPy sum is bound by its own loop, not by memory."""
    from numba import njit

    def read(words):  # type: ignore[no-untyped-def]
        total = np.uint64(0)
        for i in range(words.shape[0]):
            total += words[i]
        return total

    compiled: Callable[[Words], int] = njit("uint64(uint64[::1])", nogil=True)(read)
    return compiled


def _last_level_cache_bytes() -> int:
    """Size of the largest cache of CPU 0, 0 where the system does not say."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * unit)
    return max(sizes)
