"""Running a model without the engine: logits of token lists, cut and packed as the caller likes.

For ``slotmux logits``, perplexity, benchmarks and the tests of isolation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.interfaces import ModelLike
from slotmux.runtime.memory import Memory
from slotmux.runtime.ubatch import BLOCK_CELLS, I32

F32 = NDArray[np.float32]
# One forward: how many next tokens of which prompt, [(index, n), ...].
Step = list[tuple[int, int]]


class Driver:
    """Feeds token lists to a model's slots directly. Owns the model's memory while in use.

    Slot i runs one token list at a time; there is no prefix cache and no sampling.
    """

    def __init__(self, model: ModelLike, *, n_ctx: int = 0, poison: bool = False) -> None:
        self._model = model
        self._ubatch = model.ubatch
        n_slots, max_blocks = self._ubatch.block_tables.shape
        self.n_slots: int = n_slots
        self.n_ctx = n_ctx or max(max_blocks * BLOCK_CELLS, model.n_ctx_train)
        self.memory = Memory(model.kv, model.rows, self._ubatch, n_ctx=self.n_ctx, poison=poison)
        self.n_ctx = self.memory.n_ctx

    def open(self, slot: int) -> None:
        """Begin an empty sequence in a slot."""
        self.memory.sequences[slot].open(None, 0)

    def close(self, slot: int) -> None:
        """End a slot's sequence and free its memory."""
        self.memory.sequences[slot].release()

    def feed(
        self,
        runs: Sequence[tuple[int, Sequence[int]]],
        *,
        outputs: str = "all",
        drafts: Sequence[tuple[int, int]] = (),
    ) -> F32:
        """One forward of ``[(slot, its next tokens), ...]``; returns logits, a copy.

        ``outputs``: "all" tokens in the order given, the "last" of each run, or "none".
        ``drafts``: for each run how many of its last tokens are drafts, and how many of those
        stay afterwards. Raises ValueError when the ubatch, the context or the pool is too small.
        """
        self.step(runs, outputs=outputs, drafts=drafts)
        return self._model.logits[: self._ubatch.n_outputs].copy()

    def step(
        self,
        runs: Sequence[tuple[int, Sequence[int]]],
        *,
        outputs: str = "all",
        drafts: Sequence[tuple[int, int]] = (),
    ) -> None:
        """``feed``, leaving the logits where they are."""
        ub = self._ubatch
        if sum(len(tokens) for _, tokens in runs) > ub.n_ubatch:
            raise ValueError(f"more than {ub.n_ubatch} tokens in one ubatch")
        ub.clear()
        drafted = list(drafts) or [(0, 0)] * len(runs)
        for (slot, tokens), (n_drafts, _) in zip(runs, drafted, strict=True):
            self._append_run(slot, tokens, outputs, n_drafts)
        self._model.forward()
        for (slot, tokens), (n_drafts, n_kept) in zip(runs, drafted, strict=True):
            self.memory.sequences[slot].commit(len(tokens) - n_drafts + n_kept)

    def guess(
        self, wanted: Sequence[tuple[int, int, int]], *, is_short: bool = False
    ) -> tuple[I32, F32]:
        """Have the model's own block guess for ``[(slot, n, next token), ...]``, longest first.

        Returns tokens and logprobs [passes, sequences], copies; what is reserved for it is given
        back. The logits of the last pass are the drafter's.
        """
        drafter = self._model.drafter
        assert drafter is not None
        full = []
        for slot, n, token in wanted:
            seq = self.memory.sequences[slot]
            if not seq.reserve(n):
                raise ValueError(f"{n} guesses have no room in slot {slot}")
            seq.history[seq.n_computed] = token
            full.append((slot, n, token, seq.n_computed))
        tokens, logprobs = drafter.run(full, is_short=is_short)
        for slot, _, _ in wanted:
            self.memory.sequences[slot].rollback()
        return tokens.copy(), logprobs.copy()

    def _append_run(
        self, slot: int, tokens: Sequence[int], outputs: str, n_drafts: int = 0
    ) -> None:
        ub = self._ubatch
        seq = self.memory.sequences[slot]
        n, begin, n_tokens = len(tokens), seq.n_computed, ub.n_tokens
        if n == 0 or begin + n > self.n_ctx or not seq.reserve(n, n_drafts):
            raise ValueError(f"{n} tokens at position {begin} have no room in slot {slot}")
        seq.history[begin : begin + n] = tokens
        ub.tokens[n_tokens : n_tokens + n] = tokens
        ub.positions[n_tokens : n_tokens + n] = range(begin, begin + n)
        ub.seq_start[ub.n_seqs] = n_tokens
        ub.seq_start[ub.n_seqs + 1] = n_tokens + n
        ub.seq_slot[ub.n_seqs] = slot
        ub.seq_drafts[ub.n_seqs] = n_drafts
        ub.n_seqs += 1
        ub.n_tokens += n
        first = {"all": 0, "last": n - 1, "none": n}[outputs]
        n_outputs = n - first
        if ub.n_outputs + n_outputs > ub.max_outputs:
            raise ValueError(f"more than {ub.max_outputs} outputs in one ubatch")
        ub.out_tokens[ub.n_outputs : ub.n_outputs + n_outputs] = range(
            n_tokens + first, n_tokens + n
        )
        ub.n_outputs += n_outputs


def logits_of(model: ModelLike, tokens: Sequence[int], n_ubatch: int = 0) -> F32:
    """Logits of every position, [n, n_vocab], computed in pieces of ``n_ubatch`` (0 = largest)."""
    ub = model.ubatch
    largest = min(ub.n_ubatch, ub.max_outputs)
    piece = min(n_ubatch or largest, largest)
    return run_pattern(model, [tokens], pieces([len(tokens)], piece))[0]


def run_pattern(
    model: ModelLike,
    prompts: Sequence[Sequence[int]],
    steps: Iterator[Step] | Sequence[Step],
    *,
    slots: Sequence[int] | None = None,
    poison: bool = False,
) -> list[F32]:
    """Logits of every position of each prompt, [n_i, n_vocab], computed step by step as told.

    ``slots[i]`` runs prompt i (default: i). Prompts that the steps do not finish are cut short.
    """
    driver = Driver(model, poison=poison)
    where = list(slots) if slots is not None else list(range(len(prompts)))
    for slot in where:
        driver.open(slot)
    done = [0] * len(prompts)
    parts: list[list[F32]] = [[] for _ in prompts]
    for step in steps:
        runs = [(where[i], prompts[i][done[i] : done[i] + n]) for i, n in step]
        logits = driver.feed(runs)
        row = 0
        for (i, _), (_, tokens) in zip(step, runs, strict=True):
            parts[i].append(logits[row : row + len(tokens)])
            done[i] += len(tokens)
            row += len(tokens)
    for slot in where:
        driver.close(slot)
    empty = np.zeros((0, model.n_vocab), np.float32)
    return [np.concatenate([empty, *part]) for part in parts]


def whole(lengths: Sequence[int]) -> Iterator[Step]:
    """Each prompt in one piece, one after the other."""
    for i, n in enumerate(lengths):
        yield [(i, n)]


def pieces(lengths: Sequence[int], k: int) -> Iterator[Step]:
    """Prompts one after the other, in pieces of ``k`` tokens."""
    for i, n in enumerate(lengths):
        for begin in range(0, n, k):
            yield [(i, min(k, n - begin))]


def packed(lengths: Sequence[int], sizes: Sequence[int]) -> Iterator[Step]:
    """All prompts together: each step takes ``sizes[i]`` tokens of every prompt i with any left."""
    left = list(lengths)
    while any(left):
        step = [(i, min(sizes[i], n)) for i, n in enumerate(left) if n]
        for i, n in step:
            left[i] -= n
        yield step


def staggered(lengths: Sequence[int], k: int, lag: int) -> Iterator[Step]:
    """Pieces of ``k`` with prompt i joining ``i * lag`` steps late: strangers come and go."""
    left = list(lengths)
    t = 0
    while any(left):
        step = [(i, min(k, n)) for i, n in enumerate(left) if n and t >= i * lag]
        for i, n in step:
            left[i] -= n
        t += 1
        if step:
            yield step
