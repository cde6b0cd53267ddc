"""How likely a draft is accepted: running estimates by position within a draft."""

from __future__ import annotations

FIRST_GUESS = 0.7  # of a source that has not been tried
WEIGHT = 0.08  # of a new observation
# A position that was seen little is expected to be like the one before it, a bit less likely: as
# much as if that had been seen so often.
PRIOR_WEIGHT, PRIOR_SHARE = 4, 0.95
MAX_COUNT = 32  # observations beyond this say nothing more


class Acceptance:
    """``rates[j]``: how often draft j was accepted when those before it were."""

    __slots__ = ("counts", "rates")

    def __init__(self, n_max: int, like: Acceptance | None = None) -> None:
        self.rates: list[float] = [FIRST_GUESS] * n_max if like is None else list(like.rates)
        self.counts: list[int] = [0] * n_max if like is None else list(like.counts)

    def observe(self, n_drafts: int, n_accepted: int, weight: float = WEIGHT) -> None:
        """Of ``n_drafts`` verified in one step the first ``n_accepted`` were right."""
        for j in range(min(n_drafts, n_accepted + 1)):
            count = self.counts[j] = min(MAX_COUNT, self.counts[j] + 1)
            # The first observations are averaged, later ones fade with time.
            step = max(weight, 1.0 / (count + 1))
            self.rates[j] += step * ((j < n_accepted) - self.rates[j])

    def chain(self, n: int) -> list[float]:
        """For each of the first ``n`` drafts how likely it and all before it are accepted."""
        chain, p, before = [], 1.0, FIRST_GUESS / PRIOR_SHARE
        for rate, count in zip(self.rates[:n], self.counts, strict=False):
            prior = PRIOR_SHARE * before
            before = (count * rate + PRIOR_WEIGHT * prior) / (count + PRIOR_WEIGHT)
            p *= before
            chain.append(p)
        return chain
