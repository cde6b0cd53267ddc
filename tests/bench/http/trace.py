"""Requests as chats send them: lengths of prompts and answers, and when each comes.

Lengths. ``sharegpt``: the conversations of ShareGPT in the evaluation of vLLM (Kwon et al. 2023,
arXiv 2309.06180, section 6.1): 161.31 tokens of prompt and 337.99 of answer in the mean. ``azure``:
the conversations of the Azure LLM inference trace of 2023 (Patel et al. 2024, Splitwise, arXiv
2311.18677, section 3): 1020 tokens of prompt and 129 of answer in the median. Both papers show
distributions with long tails and give these numbers; the shape here is a lognormal one through
them whose spread is ours (``sigma``), without what fits no slot. Azure's own file
(AzureLLMInferenceTrace_conv.csv), or any with its two columns, can be read in place of it.

Arrivals are a Poisson process. Everything follows from the seed: the same trace for every program.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEAST_PROMPT, LEAST_ANSWER = 4, 4  # tokens: as vLLM's benchmark, which drops shorter ones


@dataclass(frozen=True, slots=True)
class Lengths:
    """A lognormal distribution of tokens: ``median`` and the deviation of the logarithm."""

    median: float
    sigma: float

    @classmethod
    def of_mean(cls, mean: float, sigma: float) -> Lengths:
        return cls(mean / float(np.exp(sigma * sigma / 2)), sigma)

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return np.rint(self.median * np.exp(self.sigma * rng.normal(size=n))).astype(np.int64)


# Prompts, answers.
DISTRIBUTIONS = {
    "sharegpt": (Lengths.of_mean(161.31, 1.2), Lengths.of_mean(337.99, 0.8)),
    "azure": (Lengths(1020, 1.0), Lengths(129, 0.9)),
}


@dataclass(frozen=True, slots=True)
class Chat:
    """One request: tokens of its prompt and of its answer."""

    n_prompt: int
    n_gen: int


def chats(source: str, n: int, n_ctx: int, seed: int) -> list[Chat]:
    """``n`` requests that fit into ``n_ctx`` tokens. ``source``: a name of DISTRIBUTIONS, or a CSV
    file with columns ContextTokens and GeneratedTokens, from whose lines they are drawn. ValueError
    where it has none that fits."""
    rng = np.random.default_rng(seed)
    kept: list[Chat] = []
    known = None if source in DISTRIBUTIONS else _read(Path(source))
    for _ in range(1000):
        n_drawn = max(64, n)
        if known is None:
            prompts, answers = (lengths.draw(rng, n_drawn) for lengths in DISTRIBUTIONS[source])
        else:
            prompts, answers = known[rng.integers(len(known), size=n_drawn)].T
        pairs = zip(prompts.tolist(), answers.tolist(), strict=True)
        kept += [Chat(p, a) for p, a in pairs if _fits(p, a, n_ctx)]
        if len(kept) >= n:
            return kept[:n]
    raise ValueError(f"{source}: (nearly) no request fits into {n_ctx} tokens")


def _fits(n_prompt: int, n_gen: int, n_ctx: int) -> bool:
    return n_prompt >= LEAST_PROMPT and n_gen >= LEAST_ANSWER and n_prompt + n_gen <= n_ctx


def _read(path: Path) -> NDArray[np.int64]:
    with path.open(newline="") as file:
        lines = [(line["ContextTokens"], line["GeneratedTokens"]) for line in csv.DictReader(file)]
    if not lines:
        raise ValueError(f"{path}: no requests")
    return np.array(lines, np.int64)


def arrivals(n: int, per_second: float, seed: int) -> list[float]:
    """Seconds from the start at which each of ``n`` requests comes, the first at once. The same
    process whatever the rate, only faster or slower."""
    gaps = np.random.default_rng(seed).exponential(size=n)
    gaps[0] = 0.0
    return [float(t) for t in np.cumsum(gaps) / per_second]
