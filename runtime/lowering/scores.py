"""Log-probabilities of given tokens: the end of a forward once more, for other rows.

The residual stream of a forward stays until the next one. So the logits of any of its tokens can be
had afterwards, some at a time, in the memory that the forward's own logits had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import Op, Table
from slotmux.kernels.ops.sampling.draw import Sample
from slotmux.kernels.ops.sampling.score import Score
from slotmux.kernels.team import Program, Team
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.ubatch import I32, MAX_TOP_LOGPROBS, Ubatch


class ScoreLowering:
    """The ops of scoring, and their tables. ``head``: the part of the builder's program that ends
    in the logits of ``draws``, whose working memory serves here too."""

    def __init__(self, b: Builder, ubatch: Ubatch, head: str, draws: Sample) -> None:
        self._b, self._head = b, head
        n = ubatch.max_outputs
        self.targets: I32 = np.zeros(n, np.int32)
        self.n_top: I32 = np.zeros(n, np.int32)
        self.logprobs: NDArray[np.float32] = np.zeros(n, np.float32)
        self.ranks: I32 = np.zeros(n, np.int32)
        self.top_ids: I32 = np.zeros((n, MAX_TOP_LOGPROBS), np.int32)
        self.top_logprobs: NDArray[np.float32] = np.zeros((n, MAX_TOP_LOGPROBS), np.float32)
        self._score = Score(
            logits=draws.logits,
            work=draws.work,
            work_bytes=draws.work_bytes,
            targets=self.targets,
            n_top=self.n_top,
            logprobs=Table("scores:logprobs", self.logprobs),
            ranks=Table("scores:ranks", self.ranks),
            top_ids=Table("scores:top_ids", self.top_ids),
            top_logprobs=Table("scores:top_logprobs", self.top_logprobs),
        )

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
