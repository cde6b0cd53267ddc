"""How likely a draft is accepted: running estimates by position within a draft."""

from __future__ import annotations

FIRST_GUESS = 0.7  # of a source that has not been tried
WEIGHT = 0.08  # of a new observation


class Acceptance:
    """``rates[j]``: how often draft j is accepted when those before it were."""

    __slots__ = ("rates",)

    def __init__(self, n_max: int, like: Acceptance | None = None) -> None:
        self.rates: list[float] = [FIRST_GUESS] * n_max if like is None else list(like.rates)

    def observe(self, n_drafts: int, n_accepted: int, weight: float = WEIGHT) -> None:
        """Of ``n_drafts`` verified in one step the first ``n_accepted`` were right."""
        rates = self.rates
        for j in range(n_accepted):
            rates[j] += weight * (1.0 - rates[j])
        if n_accepted < n_drafts:
            rates[n_accepted] -= weight * rates[n_accepted]

    def chain(self, n: int) -> list[float]:
        """For each of the first ``n`` drafts how likely it and all before it are accepted."""
        chain, p = [], 1.0
        for rate in self.rates[:n]:
            p *= rate
            chain.append(p)
        return chain
