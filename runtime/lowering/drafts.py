"""Drafting by the model's own block for multi-token prediction: its tables, programs and results.

A pass guesses one token for each sequence of the step; a chain of passes is one program
(kernels/ops/sampling/advance.py). The block's cells lie in the KV cache as one more layer's, the
hidden state that it begins with in the recurrent row: both follow the sequence wherever it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import State, Table
from slotmux.kernels.ops.recurrent.token_shift import LastToken, TokenShift
from slotmux.kernels.ops.sampling.advance import Advance
from slotmux.kernels.team import Program, Team
from slotmux.runtime.interfaces import GuideLike
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.weights import Panels
from slotmux.runtime.sampling.table import SamplingTable
from slotmux.runtime.ubatch import I32, Ubatch

# Guesses are looked for among so many tokens first: ids are in the order in which the tokenizer
# learned them, so the first ones are by far the most frequent, and the whole output matrix of a
# small model with a large vocabulary is a third of all it reads.
SHORT_VOCAB = 32768
# Parts of the program beside what comes first and the body: the products of a pass, with all tokens
# or some, and behind each, its draws and the way to the next pass.
_LONG, _SHORT, _DRAWS = "long", "short", " draws"


def keep_last(b: Builder, hidden: Rows) -> tuple[Rows, State]:
    """The hidden state of the token before each, and where a row keeps the last one."""
    op = TokenShift(kind="before", x=hidden, out=b.buffers.rows("mtp_before", hidden.width))
    b.append(op)
    assert op.state is not None
    return op.out, op.state


def load_hidden(b: Builder, last: State, width: int) -> Rows:
    """The hidden states of the last tokens of the step's sequences."""
    out = b.buffers.rows("mtp_guess", width)
    b.append(LastToken(state=last, out=out))
    return b.keep(out)  # the next pass begins with what this one leaves there


def draft_ubatch(trunk: Ubatch) -> Ubatch:
    """Tables for one token a slot, over the trunk's own sequences."""
    n_slots = trunk.seq_slot.size
    ub = Ubatch(n_slots, n_slots, 0, n_slots)
    ub.block_tables, ub.state_row = trunk.block_tables, trunk.state_row
    ub.state_fresh, ub.state_pending = trunk.state_fresh, trunk.state_pending
    ub.seq_start[:] = np.arange(n_slots + 1)
    ub.sample_output[:] = np.arange(n_slots)
    ub.sample_slot = ub.seq_slot
    return ub


class DraftLowering:
    """The ops of guessing: the beginning once, then for each token the body and a tail, which
    looks at all tokens or, where there are many, at the first ones only."""

    def __init__(
        self,
        b: Builder,
        ubatch: Ubatch,
        sampling: SamplingTable,
        max_drafts: int,
        hidden: Rows,
        head: Panels,
        guess: Callable[[], None],
    ) -> None:
        self._b, self.ubatch, self._sampling = b, ubatch, sampling
        self.max_drafts = max_drafts
        n_slots = ubatch.seq_slot.size
        self.tokens: I32 = np.zeros((max_drafts, n_slots), np.int32)
        self.logprobs: NDArray[np.float32] = np.zeros((max_drafts, n_slots), np.float32)
        self.n_wanting: I32 = np.zeros(max_drafts + 1, np.int32)
        self.n_passes = np.zeros(1, np.int64)
        with b.part("body"):
            guess()
        rows = b.buffers.rows("draft_logits", head.n_out)
        memory = b.buffers.array(rows.buffer).view(np.float32)
        floats = rows.stride // 4
        self.logits: NDArray[np.float32] = memory[: n_slots * floats].reshape(n_slots, floats)[
            :, : head.n_out
        ]
        self.short_vocab = min(SHORT_VOCAB, head.n_out)
        self._tail(_LONG, hidden, head, rows)
        if self.short_vocab < head.n_out:
            self._tail(_SHORT, hidden, head.outputs(0, self.short_vocab), rows)
        b.finish()

    def _tail(self, part: str, hidden: Rows, head: Panels, logits: Rows) -> None:
        """Logits of a pass, its draws, and the way to the next one."""
        with self._b.part(part):
            self._b.linear(hidden, head, logits)
        with self._b.part(part + _DRAWS):
            self._append_draws(logits)

    def _append_draws(self, logits: Rows) -> None:
        b, masks = self._b, self.ubatch.sample_masks
        b.append(self._sampling.draws(logits, b.n_threads, masks, is_draft=True))
        b.append(
            Advance(
                slots=self._sampling.slots,
                n_passes=Table("drafts:n_passes", self.n_passes),
                n_wanting=self.n_wanting,
                tokens=Table("drafts:tokens", self.tokens),
                logprobs=Table("drafts:logprobs", self.logprobs),
            )
        )

    @property
    def builds(self) -> dict[str, Callable[[], Callable[..., None]]]:
        """The kernels, by name."""
        return self._b.builds

    @property
    def n_bytes(self) -> int:
        """Working memory."""
        return self._b.buffers.n_bytes

    @property
    def scratch_bytes(self) -> int:
        """Working memory of each thread."""
        return self._b.scratch_bytes

    @property
    def has_short(self) -> bool:
        """Whether looking among the first tokens only is anything else than among all."""
        return bool(self._b.ops_of(_SHORT))

    def program(self, team: Team, n_passes: int, *, is_short: bool) -> Program:
        """A chain of ``n_passes``."""
        tail = _SHORT if is_short else _LONG
        one = self._b.ops_of("body", tail, tail + _DRAWS)
        return self._b.program(team, [*self._b.ops_of(""), *one * n_passes])

    def parts(self, team: Team, *, is_short: bool) -> tuple[Program, Program, Program]:
        """The same pass by pass: the first one up to its draws, each further one, the draws."""
        b, tail = self._b, _SHORT if is_short else _LONG
        return (
            b.program(team, b.ops_of("", "body", tail)),
            b.program(team, b.ops_of("body", tail)),
            b.program(team, b.ops_of(tail + _DRAWS)),
        )


class Drafter:
    """Guesses tokens of several sequences at once. Engine thread only; not during a forward."""

    def __init__(self, lowering: DraftLowering, step: NDArray[np.int64], team: Team) -> None:
        self._lowering, self._step, self._team = lowering, step, team
        self.max_drafts = lowering.max_drafts
        self.short_vocab, self.has_short = lowering.short_vocab, lowering.has_short
        self._programs = {
            (is_short, n): lowering.program(team, n, is_short=is_short)
            for is_short in {self.has_short, False}
            for n in range(1, self.max_drafts + 1)
        }
        self._parts = {
            is_short: lowering.parts(team, is_short=is_short)
            for is_short in {self.has_short, False}
        }
        self._is_filled = False  # the logits beyond the first tokens are -inf

    @property
    def logits(self) -> NDArray[np.float32]:
        """[n_slots, n_vocab]: of the last pass, in the order of ``run``'s sequences."""
        return self._lowering.logits

    def run(
        self,
        wanted: Sequence[tuple[int, int, int, int]],
        *,
        is_short: bool = False,
        guide: GuideLike | None = None,
    ) -> tuple[I32, NDArray[np.float32]]:
        """Guess for ``wanted`` = [(slot, n, token, position)]: ``n`` tokens behind ``token``.

        ``token`` is the sequence's first that is not computed; there are ``n`` reserved positions
        from it on. In descending order of n. ``guide`` is asked before each draw what may be drawn.
        Returns tokens and logprobs, [n_passes, n_sequences], overwritten by the next run; token -1
        where none could be drawn. Guesses are also written into the histories of the slots, behind
        ``token``.
        """
        low, ub = self._lowering, self._lowering.ubatch
        slots, counts, tokens, positions = zip(*wanted, strict=True)
        n_seqs, n_passes = len(wanted), counts[0]
        is_even = counts[-1] == n_passes
        assert is_even or all(a >= b for a, b in pairwise(counts))
        ub.seq_slot[:n_seqs], ub.tokens[:n_seqs] = slots, tokens
        ub.positions[:n_seqs] = positions
        ub.sample_pos[:n_seqs] = ub.positions[:n_seqs] + 1
        low.n_wanting[:n_passes] = (
            n_seqs if is_even else [sum(n > i for n in counts) for i in range(n_passes)]
        )
        low.n_wanting[n_passes] = 0
        low.n_passes[0] = 0
        is_short = is_short and self.has_short
        if is_short and not self._is_filled:
            low.logits[:, self.short_vocab :] = -np.inf
        self._is_filled = is_short
        self._step[:4] = n_seqs  # tokens, sequences, outputs, draws
        if guide is None:
            self._team.run(self._programs[is_short, n_passes])
        else:
            self._run_guided(guide, n_passes, is_short)
        return low.tokens[:n_passes, :n_seqs], low.logprobs[:n_passes, :n_seqs]

    def _run_guided(self, guide: GuideLike, n_passes: int, is_short: bool) -> None:
        low, masks = self._lowering, self._lowering.ubatch.sample_masks
        computing, going_on, drawing = self._parts[is_short]
        drawn: list[int] = []
        for i in range(n_passes):
            n_seqs = low.n_wanting.item(i)
            guide.begin(n_seqs, drawn)
            self._team.run(computing)
            masks[:n_seqs] = guide.join()
            self._team.run(drawing)
            drawn, computing = low.tokens[i, :n_seqs].tolist(), going_on
        masks[:] = 0
