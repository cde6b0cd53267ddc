"""Vectors of texts from a model that generates: the end of a forward once more, without logits.

As with scores, the residual stream of a forward stays until the next one, and rows of it are taken
some at a time. Behind them stands a model's own head, where it ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.activations import TILE_ROWS
from slotmux.kernels.operands import Rows, round_up
from slotmux.kernels.team import Program, Team
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.ubatch import I32, Ubatch

VECTORS = "vectors"  # a part of the program, which runs alone


class VectorLowering:
    """The part of a program that ends in ``out``: rows of the step's outputs, kept as floats."""

    def __init__(self, b: Builder, ubatch: Ubatch, out: Rows) -> None:
        self._b = b
        memory = b.buffers.array(out.buffer).view(np.float32)
        width = out.stride // 4
        rows = memory[: round_up(ubatch.max_outputs, TILE_ROWS) * width].reshape(-1, width)
        self.rows: NDArray[np.float32] = rows[:, : out.width]

    def program(self, team: Team) -> Program:
        """The rows of the step's outputs."""
        return self._b.program(team, self._b.ops_of(VECTORS))


class Vectoriser:
    """Gives rows of the forward that was computed last. Engine thread only."""

    def __init__(
        self, lowering: VectorLowering, ubatch: Ubatch, step: NDArray[np.int64], team: Team
    ) -> None:
        self._rows, self._ubatch, self._step, self._team = lowering.rows, ubatch, step, team
        self._program = lowering.program(team)

    def run(self, tokens: I32) -> NDArray[np.float32]:
        """See ModelLike.vectors."""
        ub, most = self._ubatch, self._ubatch.max_outputs
        out = np.empty((len(tokens), self._rows.shape[1]), np.float32)
        for begin in range(0, len(tokens), most):
            part = tokens[begin : begin + most]
            ub.out_tokens[: len(part)] = part
            self._step[:4] = ub.n_tokens, ub.n_seqs, len(part), 0
            self._team.run(self._program)
            out[begin : begin + most] = self._rows[: len(part)]
        return out


def scores_of_rows(b: Builder, x: Rows) -> Rows:
    """Logits of the labels: cls.output x + bias."""
    tensor = b.weights.file.tensors.get("cls.output.weight")
    if tensor is None:
        b.weights.refuse("cls.output.weight", "this tensor is missing, and scores are asked for")
    n_labels = tensor.shape[1] if len(tensor.shape) > 1 else 1
    out = b.linear(x, b.weights.matrix("cls.output.weight", x.width, n_labels), "scores")
    if b.weights.has("cls.output.bias"):
        b.add_bias(out, b.weights.vector("cls.output.bias", n_labels))
    return out
