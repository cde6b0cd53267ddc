"""Log-probabilities of a prompt's tokens: the model's own, whatever the request's sampling is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.ubatch import I32


@dataclass(frozen=True, slots=True, eq=False)
class PromptLogprobs:
    """Of each of n tokens: its natural-log probability after the tokens before it, its rank (1 =
    likeliest) and the k likeliest tokens in its place, likeliest first."""

    logprobs: NDArray[np.float32]  # [n]
    ranks: I32  # [n]
    top_ids: I32  # [n, k]
    top_logprobs: NDArray[np.float32]  # [n, k]

    @classmethod
    def empty(cls, n: int, k: int) -> PromptLogprobs:
        """Room for n tokens with k alternatives each."""
        return cls(
            np.zeros(n, np.float32),
            np.zeros(n, np.int32),
            np.zeros((n, k), np.int32),
            np.zeros((n, k), np.float32),
        )

    def part(self, begin: int, end: int) -> PromptLogprobs:
        """A view of some of the tokens."""
        cut = slice(begin, end)
        return PromptLogprobs(
            self.logprobs[cut], self.ranks[cut], self.top_ids[cut], self.top_logprobs[cut]
        )
