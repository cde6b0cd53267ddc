"""What steps and drafting passes cost: measured at the start, corrected by every step since."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from slotmux.runtime.speculation.trials import Trial

# What is assumed of what was never measured: each further row and pass, of a step's own time.
ROW_SHARE, PASS_SHARE = 0.08, 0.15
PULL, OWN_PULL = 0.05, 0.02  # how far one observation moves all estimates, and its own
LARGEST_STEP = 1.5  # one observation is believed up to this factor
LARGEST_REST = 3.0  # the same of what a step takes outside of its forward


class Costs:
    """Seconds of a step by sequences and rows, and of a drafting pass by sequences.

    ``steps``: {n_seqs: {n_rows: seconds}}, ``passes``: {(n_seqs, is_short): seconds}; what lies
    between is interpolated, what is missing assumed.
    """

    def __init__(
        self,
        steps: dict[int, dict[int, float]] | None = None,
        passes: dict[tuple[int, bool], float] | None = None,
    ) -> None:
        self._steps = steps or {1: {1: 0.01, 11: 0.01 * (1 + 10 * ROW_SHARE)}}
        self._passes = passes or {}
        self._scale = 1.0  # steps now against those measured: longer contexts, a busy machine
        self._shapes: dict[int, list[float]] = {}  # by n_seqs: seconds by rows, before the scale
        self._drafts: dict[tuple[int, bool], float] = {}  # seconds of a pass, before the scale
        self._pass_scale = 1.0
        self._overheads: dict[tuple[int, bool], float] = {}  # by n_seqs, with drafts
        self._trials: defaultdict[int, Trial] = defaultdict(Trial)  # by n_seqs

    def steps(self, n_seqs: int, max_rows: int) -> list[float]:
        """Seconds of a step of ``n_seqs`` sequences by the tokens it computes, 0 to max_rows."""
        scale = self._scale
        return [seconds * scale for seconds in self._shape(n_seqs, max_rows)[: max_rows + 1]]

    def step(self, n_seqs: int, n_rows: int) -> float:
        """Seconds of a step that computes ``n_rows`` tokens of ``n_seqs`` sequences."""
        return self._shape(n_seqs, n_rows)[n_rows] * self._scale

    def _shape(self, n_seqs: int, max_rows: int) -> list[float]:
        shape = self._shapes.setdefault(n_seqs, [])
        if len(shape) <= max_rows:
            around = _around(sorted(self._steps), n_seqs)
            shape += [
                _at({n: _at(self._steps[n], n_rows) for n in around}, n_seqs)
                for n_rows in range(len(shape), max_rows + 1)
            ]
        return shape

    def draft(self, n_seqs: int, is_short: bool) -> float:
        """Seconds of a drafting pass over ``n_seqs`` sequences."""
        key = (n_seqs, is_short)
        if key not in self._drafts:
            known = {n: s for (n, short), s in self._passes.items() if short == is_short}
            if known:
                self._drafts[key] = _at(known, n_seqs)
            else:
                self._drafts[key] = PASS_SHARE * self._shape(n_seqs, n_seqs)[n_seqs]
        return self._drafts[key] * self._pass_scale

    def may_draft(self, n_seqs: int) -> bool:
        """Whether so many sequences should get drafts in the next step, as far as the clock
        tells."""
        return self._trials[n_seqs].may_draft()

    def is_trying(self, n_seqs: int) -> bool:
        """Whether every step of so many sequences should be looked at."""
        return self._trials[n_seqs].is_trying

    def overhead(self, n_seqs: int, with_drafts: bool) -> float:
        """Seconds of a step outside of its forward and passes: what Python does."""
        known = self._overheads.get((n_seqs, with_drafts))
        return self._overheads.get((n_seqs, False), 0.0) if known is None else known

    def on_cycle(
        self, n_seqs: int, with_drafts: bool, n_tokens: int, seconds: float, computing: float
    ) -> None:
        """From the end of one step to the end of the next, which gave ``n_tokens``; of that a
        forward and passes took ``computing``."""
        self._trials[n_seqs].observe(with_drafts, n_tokens, seconds)
        key, rest = (n_seqs, with_drafts), max(0.0, seconds - computing)
        known = self._overheads.setdefault(key, rest)
        self._overheads[key] = known + PULL * (min(rest, LARGEST_REST * known) - known)

    def on_step(self, n_seqs: int, n_rows: int, seconds: float) -> None:
        """A step without prompt tokens took so long."""
        off = _believed(seconds / self.step(n_seqs, n_rows))
        self._scale *= off**PULL
        self._shapes[n_seqs][n_rows] *= off**OWN_PULL

    def on_draft(self, n_seqs: int, n_passes: int, is_short: bool, seconds: float) -> None:
        """A chain of passes that began with ``n_seqs`` sequences took so long."""
        off = _believed(seconds / n_passes / self.draft(n_seqs, is_short))
        self._pass_scale *= off**PULL
        self._drafts[n_seqs, is_short] *= off**OWN_PULL


def _believed(off: float) -> float:
    return min(LARGEST_STEP, max(1.0 / LARGEST_STEP, off))


def _around(known: list[int], n: int) -> list[int]:
    i = bisect_left(known, n)
    return known[max(0, i - 1) : i + 1] or known[-1:]


def _at(known: dict[int, float], n: int) -> float:
    """Between two known points their line; beyond the last one the line through the last two."""
    if n in known:
        return known[n]
    counts = sorted(known)
    if len(counts) == 1:
        return known[counts[0]] * (1.0 + ROW_SHARE * max(0, n - counts[0]))
    i = min(max(1, bisect_left(counts, n)), len(counts) - 1)
    a, b = counts[i - 1], counts[i]
    return max(known[a] + (known[b] - known[a]) * (n - a) / (b - a), 0.25 * min(known[a], known[b]))
