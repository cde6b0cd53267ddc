"""How many drafts of each sequence are worth a step: the most expected tokens a second."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.speculation.costs import Costs

MARGIN = 1.02  # an estimated gain below this is none


def choose(
    chains: Sequence[Sequence[float]],
    is_free: Sequence[bool],
    n_seqs: int,
    costs: Costs,
    *,
    is_short: bool,
    max_rows: int,
) -> list[int]:
    """Drafts for each of ``chains``.

    ``chains[i][j]``: how likely the first j + 1 drafts of sequence i are all accepted; ``is_free``:
    its drafts need no pass. ``n_seqs`` sequences (those of the chains among them) generate.
    Drafts are tried pass by pass: with up to k, each costs a row and k passes are paid for.
    """
    best, best_rate = [0] * len(chains), MARGIN * n_seqs / costs.step(n_seqs, n_seqs)
    n_paid = sum(not free for free in is_free)
    pass_s = costs.draft(n_paid, is_short) if n_paid else 0.0
    depth = max((len(chain) for chain in chains), default=0)
    for k in range(1, depth + 1):
        counts, rate = _fill(chains, is_free, n_seqs, costs, k, pass_s, max_rows)
        if rate > best_rate:
            best, best_rate = counts, rate
    return best


def _fill(
    chains: Sequence[Sequence[float]],
    is_free: Sequence[bool],
    n_seqs: int,
    costs: Costs,
    k: int,
    pass_s: float,
    max_rows: int,
) -> tuple[list[int], float]:
    """With up to ``k`` passes: the likeliest drafts first, as long as each raises the rate."""
    offers = sorted(
        ((p, i) for i, chain in enumerate(chains) for p in (chain if is_free[i] else chain[:k])),
        reverse=True,
    )
    counts = [0] * len(chains)
    n_tokens, n_rows = float(n_seqs), n_seqs
    spent, seconds = 0.0, costs.step(n_seqs, n_seqs)
    rate = n_tokens / seconds
    for p, i in offers:
        if n_rows == max_rows:
            break
        passes = spent
        if not is_free[i]:
            passes = max(spent, pass_s * (counts[i] + 1))
        seconds = costs.step(n_seqs, n_rows + 1) + passes
        # The first draft pays for its pass; others come along. So a fall is not the end of it.
        if (n_tokens + p) / seconds < rate and passes == spent:
            break
        n_tokens, n_rows, spent = n_tokens + p, n_rows + 1, passes
        rate = n_tokens / seconds
        counts[i] += 1
    return counts, rate
