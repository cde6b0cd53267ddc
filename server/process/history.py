"""What the engine did in the last minutes, second by second: the board's plots begin with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from slotmux.runtime.engine.stats import EngineStats, HistogramStats
from slotmux.server.interfaces import EnginePort

PERIOD_S = 1.0
N_KEPT = 300  # samples
WINDOW_S = 60.0  # of quantiles


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened since the sample before, over ``seconds``; ``number`` counts from 1."""

    number: int
    at: float  # on the event loop's clock
    seconds: float
    n_prompt: int  # tokens computed
    n_cached: int  # tokens reused
    n_generated: int
    n_busy: int  # slots, now
    n_queued: int  # now
    n_gaps: int  # from a token to the next of its choice
    gaps_s: float
    n_first: int  # choices ended that had a first token
    first_s: float  # from submission to it, of all of them


class History:
    """Lives on the event loop, which calls ``observe`` regularly."""

    def __init__(self, engine: EnginePort) -> None:
        self._engine = engine
        self._samples: deque[Sample] = deque(maxlen=N_KEPT)
        self._marks: deque[tuple[float, HistogramStats, HistogramStats]] = deque()
        self._last: tuple[float, EngineStats] | None = None
        self._n = 0

    def observe(self, now: float) -> None:
        """Take a sample if it is time; ``now`` is on the event loop's clock."""
        if self._last is not None and now - self._last[0] < PERIOD_S:
            return
        stats = self._engine.stats()
        if self._last is not None:
            self._n += 1
            self._samples.append(_between(self._n, self._last, (now, stats)))
        self._last = (now, stats)
        self._marks.append((now, stats.itl, stats.ttft))
        while now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()

    def since(self, number: int) -> list[Sample]:
        """Samples after the one of this number, oldest first."""
        return [sample for sample in self._samples if sample.number > number]

    def quantiles(self, stats: EngineStats, q: float) -> tuple[float | None, float | None]:
        """Of the last minute, in seconds: from token to token, and to the first token; None where
        there was none."""
        if not self._marks:
            return None, None
        _, itl, ttft = self._marks[0]
        return quantile(itl, stats.itl, q), quantile(ttft, stats.ttft, q)


def _between(number: int, old: tuple[float, EngineStats], new: tuple[float, EngineStats]) -> Sample:
    (before, was), (now, stats) = old, new
    c, d = stats.counters, was.counters
    return Sample(
        number=number,
        at=now,
        seconds=now - before,
        n_prompt=c.n_prompt_tokens - d.n_prompt_tokens,
        n_cached=c.n_prompt_tokens_cached - d.n_prompt_tokens_cached,
        n_generated=c.n_generated_tokens - d.n_generated_tokens,
        n_busy=stats.n_slots_busy,
        n_queued=stats.n_queued,
        n_gaps=sum(stats.itl.counts) - sum(was.itl.counts),
        gaps_s=stats.itl.sum_s - was.itl.sum_s,
        n_first=sum(stats.ttft.counts) - sum(was.ttft.counts),
        first_s=stats.ttft.sum_s - was.ttft.sum_s,
    )


def quantile(old: HistogramStats, new: HistogramStats, q: float) -> float | None:
    """Quantile ``q`` of what was observed from ``old`` to ``new``, linear inside a bucket, as
    Prometheus estimates it; above the last bound that bound. None: nothing was observed."""
    counts = [b - a for a, b in zip(old.counts, new.counts, strict=True)]
    rank = q * sum(counts)
    if not rank:
        return None
    below, lower = 0, 0.0
    for count, upper in zip(counts, new.bounds, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return lower
