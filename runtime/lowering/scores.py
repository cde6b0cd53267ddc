"""Log-probabilities of given tokens: the end of a forward once more, for other rows.

The residual stream of a forward stays until the next one. So the logits of any of its tokens can be
had afterwards, some at a time, in the memory that the forward's own logits had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import Op
from slotmux.kernels.ops.sampling.score import SCORE, build_score_rows
from slotmux.kernels.team import Program, Team
from slotmux.runtime.lowering.buffers import Rows, Span
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.ops import RawOp
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.ubatch import I32, MAX_TOP_LOGPROBS, Ubatch


class ScoreLowering:
    """The ops of scoring, and their tables. ``head``: the part of the builder's program that ends
    in ``logits``; its last op draws from the same memory."""

    def __init__(self, b: Builder, ubatch: Ubatch, head: str, logits: Rows) -> None:
        self._head = head
        n = ubatch.max_outputs
        self.targets: I32 = np.zeros(n, np.int32)
        self.n_top: I32 = np.zeros(n, np.int32)
        self.logprobs: NDArray[np.float32] = np.zeros(n, np.float32)
        self.ranks: I32 = np.zeros(n, np.int32)
        self.top_ids: I32 = np.zeros((n, MAX_TOP_LOGPROBS), np.int32)
        self.top_logprobs: NDArray[np.float32] = np.zeros((n, MAX_TOP_LOGPROBS), np.float32)
        last = b.ops[-1]
        assert isinstance(last, RawOp)
        draws = last.raw
        operands: dict[str, int | NDArray[np.float32] | I32] = {
            name: draws[name] for name in ("logits", "stride", "n_vocab", "work", "work_bytes")
        }
        for name in ("targets", "n_top", "logprobs", "ranks", "top_ids", "top_logprobs"):
            operands[name] = getattr(self, name)
        self._score = RawOp(
            "score_rows",
            build_score_rows,
            SCORE,
            operands,
            [logits.span],
            [Span("scores")],
        )
        self._b = b

    @property
    def ops(self) -> list[Op]:
        """The head, and the score of each of its rows."""
        return [*self._b.ops_of(self._head), self._score]

    def program(self, team: Team) -> Program:
        """The head, and the score of each of its rows."""
        return self._b.program(team, self.ops)


class Scorer:
    """Scores tokens of the forward that was computed last. Engine thread only."""

    def __init__(
        self, lowering: ScoreLowering, ubatch: Ubatch, step: NDArray[np.int64], team: Team
    ) -> None:
        self._lowering, self._ubatch, self._step, self._team = lowering, ubatch, step, team
        self._program = lowering.program(team)

    def run(self, rows: I32, targets: I32, n_top: I32, out: PromptLogprobs) -> None:
        """See ModelLike.score."""
        low, most = self._lowering, self._ubatch.max_outputs
        for begin in range(0, len(rows), most):
            part = slice(begin, begin + most)
            n = len(rows[part])
            self._ubatch.out_tokens[:n] = rows[part]
            low.targets[:n], low.n_top[:n] = targets[part], n_top[part]
            self._step[:4] = self._ubatch.n_tokens, self._ubatch.n_seqs, n, 0
            self._team.run(self._program)
            out.logprobs[part], out.ranks[part] = low.logprobs[:n], low.ranks[:n]
            k = out.top_ids.shape[1]
            out.top_ids[part], out.top_logprobs[part] = (
                low.top_ids[:n, :k],
                low.top_logprobs[:n, :k],
            )
