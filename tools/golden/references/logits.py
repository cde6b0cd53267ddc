"""Prompts, which of their logits are kept, and how near two references are to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

LONG = 64
N_KEPT_OF_LONG = 8


def prompts(seed: int, n_vocab: int, lengths: Sequence[int], first: int) -> list[list[int]]:
    """Random token ids; ids below ``first``, special tokens, are not drawn."""
    rng = np.random.default_rng(seed)
    return [[int(t) for t in rng.integers(first, n_vocab, size=n)] for n in lengths]


def kept_rows(n: int) -> list[int]:
    """Positions whose logits are kept: all of a short prompt, the last eight of a long one."""
    return list(range(n)) if n <= LONG else list(range(n - N_KEPT_OF_LONG, n))


@dataclass(frozen=True, slots=True)
class Distance:
    """How far logits are from a reference's."""

    max_abs: float
    deviation: float  # of the reference
    relative_l2: float
    argmax_agree: float  # share of the rows

    @classmethod
    def of(cls, got: F32, reference: F32) -> Distance:
        a, b = got.astype(np.float64), reference.astype(np.float64)
        return cls(
            float(np.abs(a - b).max()),
            float(np.std(reference)),
            float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12)),
            float((got.argmax(-1) == reference.argmax(-1)).mean()),
        )
