"""Whether drafting pays at all, by the clock: steps with drafts beside steps without.

Estimated costs leave out what nobody can foresee: other work of this process, a busy machine, the
price of handing out more tokens. So both ways are taken now and then, and the better one mostly.
"""

from __future__ import annotations

FADE = 0.98  # of what was seen, with each step seen
N_FIRST = 16  # steps of each way before any is preferred
BLOCK = 6  # steps of one way at a time; the first is not counted
STALE = 0.1  # share of old steps that is kept when a way is tried again
# Steps between tries of the way that is not preferred; twice as many while it is clearly worse.
FIRST_EVERY, LAST_EVERY = 240, 960
CLEARLY = 0.9
GAIN = 1.08  # of drafting, below which it is none: near that, trying both costs as much as it gives
LARGEST_GAP = 4.0  # a cycle so many times longer than usual was disturbed: it says nothing


class Trial:
    """Both ways at one number of sequences: index 0 without drafts, 1 with."""

    __slots__ = (
        "_before",
        "_best",
        "_every",
        "_left",
        "_n",
        "_n_since",
        "_seconds",
        "_tokens",
        "_way",
        "_weight",
    )

    def __init__(self) -> None:
        self._tokens, self._seconds, self._weight = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
        self._n = [0, 0]
        self._way, self._left, self._n_since = 1, BLOCK, 0
        self._best, self._every, self._before = 1, FIRST_EVERY, -1

    @property
    def rates(self) -> tuple[float, float]:
        """Tokens a second; 0 where nothing was seen."""
        a, b = (t / s if s else 0.0 for t, s in zip(self._tokens, self._seconds, strict=True))
        return a, b

    @property
    def is_trying(self) -> bool:
        """Whether steps now tell which way is better, and do not only follow from that."""
        return self._way != self._best or min(self._n) < N_FIRST

    def may_draft(self) -> bool:
        """Which way the next step is to take."""
        if not self._left:
            self._choose()
        self._left -= 1
        return self._way == 1

    def _choose(self) -> None:
        self._left = BLOCK
        if min(self._n) < N_FIRST:
            self._way = int(self._n[1] <= self._n[0])
            return
        plain, drafting = self.rates
        best = int(drafting >= GAIN * plain)
        if best != self._best:
            self._best, self._every = best, FIRST_EVERY
        self._n_since += BLOCK
        if self._n_since >= self._every:
            self._n_since, self._way = 0, 1 - best
            is_clear = min(plain, drafting) < CLEARLY * max(plain, drafting)
            self._every = min(LAST_EVERY, 2 * self._every) if is_clear else FIRST_EVERY
            # What was seen of it long ago counts less than what will be seen now.
            self._tokens[1 - best] *= STALE
            self._seconds[1 - best] *= STALE
            self._weight[1 - best] *= STALE
        else:
            self._way = best

    def observe(self, with_drafts: bool, n_tokens: int, seconds: float) -> None:
        """One step gave ``n_tokens``, and the next could begin ``seconds`` after it had."""
        way = int(with_drafts)
        if way != self._before:  # the step after a change of ways has the other one's leftovers
            self._before = way
            return
        is_known = self._n[way] >= N_FIRST
        if is_known and seconds > LARGEST_GAP * self._seconds[way] / self._weight[way]:
            return
        self._n[way] += 1
        self._weight[way] = FADE * self._weight[way] + 1.0
        self._tokens[way] = FADE * self._tokens[way] + n_tokens
        self._seconds[way] = FADE * self._seconds[way] + seconds
