"""Sets and sequences of tokens, laid out as the sampling kernels read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.ubatch import I32


@dataclass(frozen=True, slots=True, eq=False)
class TokenSet:
    """Bit i % 32 of word i // 32 tells whether token i is in the set."""

    bits: NDArray[np.uint32]  # [ceil(n_vocab / 32)]

    @classmethod
    def of(cls, ids: Iterable[int] | I32, n_vocab: int) -> TokenSet:
        """Raises IndexError for an id that is no token."""
        flags = np.zeros(-(-n_vocab // 32) * 32, np.uint8)
        flags[:n_vocab][np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.intp)] = 1
        return cls(np.packbits(flags, bitorder="little").view(np.uint32))


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequences:
    """Sequence i is tokens[starts[i] : starts[i + 1]]; none is empty."""

    starts: I32
    tokens: I32

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> TokenSequences:
        """They keep their order."""
        assert all(sequences)
        ends = np.cumsum([0, *(len(s) for s in sequences)])
        tokens = [token for sequence in sequences for token in sequence]
        return cls(ends.astype(np.int32), np.array(tokens, np.int32))

    @property
    def n(self) -> int:
        """How many there are."""
        return self.starts.size - 1


@dataclass(frozen=True, slots=True, eq=False)
class Breakers:
    """What DRY looks for no repetition across: single tokens and sequences of several."""

    first: TokenSet  # tokens that begin any
    single: TokenSet
    several: TokenSequences  # ascending by their first token

    @classmethod
    def of(cls, single: I32, several: Iterable[Sequence[int]], n_vocab: int) -> Breakers:
        """Sequences in ``several`` have at least two tokens."""
        ordered = sorted({tuple(sequence) for sequence in several})
        assert all(len(sequence) > 1 for sequence in ordered)
        heads = np.array([sequence[0] for sequence in ordered], np.int32)
        return cls(
            TokenSet.of(np.concatenate([single, heads]).astype(np.int32), n_vocab),
            TokenSet.of(single, n_vocab),
            TokenSequences.of(ordered),
        )
