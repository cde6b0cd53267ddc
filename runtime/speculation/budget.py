"""How many drafts of each sequence are worth a step: the most expected tokens a second."""

from __future__ import annotations

from collections.abc import Sequence

from slotmux.runtime.speculation.costs import Costs

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
    max_rows = min(max_rows, n_seqs + sum(map(len, chains)))
    seconds = costs.steps(n_seqs, max_rows)
    n_paid = sum(not free for free in is_free)
    pass_s = costs.draft(n_paid, is_short) if n_paid else 0.0
    depth = max((len(chain) for chain in chains), default=0)
    plain_s = seconds[n_seqs] + costs.overhead(n_seqs, False)
    best, best_rate = [0] * len(chains), MARGIN * n_seqs / plain_s
    rest_s = costs.overhead(n_seqs, True)
    for k in range(depth + 1 if n_paid else 1):
        offers = sorted(
            (
                (p, i)
                for i, chain in enumerate(chains)
                for p in (chain if is_free[i] else chain[:k])
            ),
            reverse=True,
        )
        counts, rate = _fill(
            offers[: max_rows - n_seqs], is_free, n_seqs, seconds, (rest_s, pass_s)
        )
        if rate > best_rate:
            best, best_rate = counts, rate
    return best


def _fill(
    offers: Sequence[tuple[float, int]],
    is_free: Sequence[bool],
    n_seqs: int,
    seconds: Sequence[float],
    other_s: tuple[float, float],
) -> tuple[list[int], float]:
    """The best of: the first of ``offers`` (likelihood, sequence), the first two, and so on.

    ``other_s``: seconds beside those of rows, of a step and of each pass."""
    counts, n_passes = [0] * len(is_free), 0
    rest_s, pass_s = other_s
    n_tokens, n_rows, spent = float(n_seqs), n_seqs, rest_s
    n_best, best_rate = 0, n_tokens / (seconds[n_seqs] + spent)
    for p, i in offers:
        counts[i] += 1
        n_tokens += p
        n_rows += 1
        if not is_free[i] and counts[i] > n_passes:
            n_passes = counts[i]
            spent = rest_s + n_passes * pass_s
        rate = n_tokens / (seconds[n_rows] + spent)
        if rate > best_rate:
            n_best, best_rate = n_rows - n_seqs, rate
    for _, i in offers[n_best:]:
        counts[i] -= 1
    return counts, best_rate
