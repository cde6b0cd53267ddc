"""Sequences computed straight on a model, without the engine: for measuring and comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from runtime.protocols import Model
from runtime.ubatch import BLOCK_CELLS
from server.commands.options import CommandError

Logits = NDArray[np.float32]  # [n_outputs, n_vocab]


class Outputs(Enum):
    """Which tokens of a forward get logits."""

    NONE = 0
    LAST = 1  # the last token of each sequence
    ALL = 2


class Sequences:
    """``n_seqs`` sequences of up to ``n_ctx`` tokens, each with blocks and a row of its own.

    Sequence i is in slot i. The model must have been loaded for that many slots and cells, and
    for one checkpoint row more if ``save`` is used.
    """

    def __init__(self, model: Model, n_seqs: int, n_ctx: int) -> None:
        n_blocks = -(-n_ctx // BLOCK_CELLS)
        has_cells, has_rows = model.kv.n_blocks > 0, model.rows.n_rows > 0
        if has_cells and model.kv.n_blocks < n_seqs * n_blocks:
            raise CommandError(f"{n_seqs} sequences of {n_ctx} tokens do not fit in the KV cache")
        self.model = model
        self.n_seqs = n_seqs
        self.n_ctx = n_ctx
        self.n_computed = [0] * n_seqs
        self._n_blocks = n_blocks if has_cells else 0
        self._has_rows = has_rows
        ubatch = model.ubatch
        for seq in range(n_seqs):
            if has_cells:
                ubatch.block_tables[seq, :n_blocks] = self._blocks(seq)
            if has_rows:
                ubatch.state_row[seq] = seq

    def reset(self) -> None:
        """Empty all sequences."""
        self.n_computed = [0] * self.n_seqs

    def forward(self, runs: Mapping[int, Sequence[int]], outputs: Outputs) -> Logits:
        """Append ``runs[seq]`` to each named sequence, in one forward; all of it must fit in the
        ubatch. Returns a view of the logits, in the order of the runs, valid until the next."""
        ubatch = self.model.ubatch
        ubatch.clear()
        for seq, tokens in runs.items():
            start, n = ubatch.n_tokens, len(tokens)
            position = self.n_computed[seq]
            assert position + n <= self.n_ctx, "a sequence outgrew its cells"
            ubatch.tokens[start : start + n] = tokens
            ubatch.positions[start : start + n] = np.arange(position, position + n)
            ubatch.seq_start[ubatch.n_seqs] = start
            ubatch.seq_slot[ubatch.n_seqs] = seq
            ubatch.state_fresh[seq] = position == 0
            ubatch.n_seqs += 1
            ubatch.n_tokens += n
            self._add_outputs(start, n, outputs)
            self.n_computed[seq] = position + n
        ubatch.seq_start[ubatch.n_seqs] = ubatch.n_tokens
        self.model.forward()
        return self.model.logits[: ubatch.n_outputs]

    def prefill(self, seq: int, tokens: Sequence[int]) -> None:
        """Append tokens to one sequence, as many forwards as it takes, without logits."""
        for start in range(0, len(tokens), self.model.ubatch.n_ubatch):
            part = tokens[start : start + self.model.ubatch.n_ubatch]
            self.forward({seq: part}, Outputs.NONE)

    def save(self, seq: int) -> None:
        """Keep the row of a sequence, for ``rewind`` and ``fork``; overwrites the one kept."""
        if self._has_rows:
            self.model.rows.copy_row(seq, self._saved_row)

    def rewind(self, seq: int, n_tokens: int) -> None:
        """Forget all but the first ``n_tokens``, which must be where ``save`` was called."""
        if self._has_rows and n_tokens:
            self.model.rows.copy_row(self._saved_row, seq)
        self.n_computed[seq] = n_tokens

    def fork(self, src: int, dst: int, n_tokens: int) -> None:
        """Make ``dst`` a copy, with memory of its own, of the first ``n_tokens`` of ``src``, which
        must be where ``save`` was called."""
        if self._n_blocks:
            n_blocks = -(-n_tokens // BLOCK_CELLS)
            for a, b in zip(self._blocks(src)[:n_blocks], self._blocks(dst), strict=False):
                self.model.kv.copy_block(int(a), int(b))
        self.rewind(dst, n_tokens)

    @property
    def _saved_row(self) -> int:
        assert self.model.rows.n_rows > self.n_seqs, "the model was loaded without a spare row"
        return self.n_seqs

    def _blocks(self, seq: int) -> NDArray[np.int32]:
        first = seq * self._n_blocks
        return np.arange(first, first + self._n_blocks, dtype=np.int32)

    def _add_outputs(self, start: int, n: int, outputs: Outputs) -> None:
        ubatch = self.model.ubatch
        first = {Outputs.NONE: n, Outputs.LAST: n - 1, Outputs.ALL: 0}[outputs]
        n_new = n - first
        ubatch.out_tokens[ubatch.n_outputs : ubatch.n_outputs + n_new] = np.arange(
            start + first, start + n
        )
        ubatch.n_outputs += n_new
