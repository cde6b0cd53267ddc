"""A grammar made of random numbers: what may follow is a function of the tokens so far."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.constraint import ConstraintError


class RandomGrammar:
    """A ConstraintFactory. Some texts go on in one way only, all can end before long."""

    def __init__(self, seed: int, n_vocab: int, eog: frozenset[int]) -> None:
        self.seed, self.n_vocab, self.eog = seed, n_vocab, eog
        self.n_made = 0

    def __call__(self) -> RandomMatcher:
        self.n_made += 1
        return RandomMatcher(self)

    def __repr__(self) -> str:
        return f"RandomGrammar({self.seed})"


class RandomMatcher:
    """A MatcherLike."""

    def __init__(self, grammar: RandomGrammar) -> None:
        self.grammar = grammar
        self.tokens: list[int] = []

    def _next(self, tokens: list[int]) -> tuple[set[int], bool]:
        """What may follow, and whether the text may end here."""
        g = self.grammar
        if tokens and tokens[-1] in g.eog:
            return set(), True
        rng = Random(f"{g.seed} {tokens[-3:]} {len(tokens)}")
        plain = [t for t in range(g.n_vocab) if t not in g.eog]
        what = rng.random()
        if what < 0.03 and tokens:
            return set(), True
        if what < 0.45:
            return {rng.choice(plain)}, False
        return set(rng.sample(plain, min(len(plain), rng.choice((2, 9, 40))))), what > 0.9

    def allowed(self, tokens: list[int]) -> set[int]:
        found, may_end = self._next(tokens)
        return found | set(self.grammar.eog) if may_end else found

    def consume(self, token: int) -> None:
        if token not in self.allowed(self.tokens):
            raise ConstraintError(f"token {token} does not follow")
        self.tokens.append(token)

    def rollback(self, n_tokens: int) -> None:
        assert n_tokens <= len(self.tokens)
        del self.tokens[len(self.tokens) - n_tokens :]

    def fill_mask(self, words: NDArray[np.uint32]) -> None:
        words[:] = 0
        for token in self.allowed(self.tokens):
            words[token >> 5] |= np.uint32(1 << (token & 31))

    def forced(self) -> list[int]:
        ahead, found = list(self.tokens), []
        while len(found) < 5:
            tokens, may_end = self._next(ahead)
            if len(tokens) != 1 or may_end:
                break
            found += tokens
            ahead += tokens
        return found

    def n_valid(self, tokens: Sequence[int]) -> int:
        ahead = list(self.tokens)
        for n, token in enumerate(tokens):
            if token not in self.allowed(ahead):
                return n
            ahead.append(token)
        return len(tokens)

    @property
    def is_stopped(self) -> bool:
        return not self._next(self.tokens)[0]
