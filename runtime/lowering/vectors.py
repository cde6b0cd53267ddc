"""Vectors of texts from a model that generates: the end of a forward once more, without logits.

As with scores, the residual stream of a forward stays until the next one, and rows of it are taken
some at a time. Behind them stands a model's own head, where it ranks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.team import Program, Team
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.ubatch import I32, Ubatch

Normed = Callable[[], Rows]


class VectorLowering:
    """The ops of vectors, which are no part of the forward. ``normed`` appends those that end in
    the normed rows of the step's outputs."""

    def __init__(self, b: Builder, ubatch: Ubatch, normed: Normed, *, ranks: bool) -> None:
        n_before, most = len(b.ops), ubatch.max_outputs
        out = normed()
        if ranks:
            out = _head(b, out, most)
        out = out.floats()
        self._b = b
        self.ops = b.ops[n_before:]
        del b.ops[n_before:]
        memory = b.buffers.array(out.buffer).view(np.float32)
        width = out.stride // 4
        rows = memory[: b.buffers.padded_rows(most) * width].reshape(-1, width)
        self.rows: NDArray[np.float32] = rows[:, : out.width]

    def program(self, team: Team) -> Program:
        """The rows of the step's outputs."""
        return self._b.program(team, self.ops)


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


def _head(b: Builder, x: Rows, capacity: int) -> Rows:
    """Logits of the labels: cls.output x + bias."""
    tensor = b.weights.file.tensors.get("cls.output.weight")
    if tensor is None:
        b.weights.refuse("cls.output.weight", "this tensor is missing, and scores are asked for")
    n_labels = tensor.shape[1] if len(tensor.shape) > 1 else 1
    weight = b.weights.matrix("cls.output.weight", x.width, n_labels)
    out = b.linear(x, weight, "scores", "n_outputs", capacity)
    if b.weights.has("cls.output.bias"):
        b.add_bias(out, b.weights.vector("cls.output.bias", n_labels), "n_outputs")
    return out
