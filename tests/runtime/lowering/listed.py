"""Small lists of ops for the tests of passes: buffers without a model, weights without memory."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.formats import FORMATS
from slotmux.kernels.formats.panels import Panels
from slotmux.kernels.operands import STEP, Op, Rows
from slotmux.kernels.ops.dense.glu import Glu
from slotmux.kernels.ops.dense.linear import Linear
from slotmux.kernels.ops.dense.norm import RmsNorm
from slotmux.runtime.lowering.buffers import Buffers, step_count


class Listed:
    """Ops that are appended one by one. ``most``: rows that a step may have."""

    def __init__(self, most: int = 128) -> None:
        self.step = np.zeros(len(STEP._fields), np.int64)
        self.buffers = Buffers(step_count(self.step, "n_tokens", most))
        self.ops: list[Op] = []

    def rows(self, name: str, width: int = 64) -> Rows:
        """Rows of a buffer."""
        return self.buffers.rows(name, width)

    def norm(self, x: Rows, out: Rows | str, *, add: bool = False) -> Rows:
        """An op that can write either form."""
        out = self.rows(out, x.width) if isinstance(out, str) else out
        self.ops.append(RmsNorm(x=x, n_rows=x.n_rows, weight=None, eps=1e-5, out=out, add=add))
        return out

    def linear(
        self, x: Rows, out: Rows | str, kind: str = "q8_0", n_out: int = 64, *, add: bool = False
    ) -> Rows:
        """An op that writes floats, and takes what weights of this kind take."""
        out = self.rows(out, n_out) if isinstance(out, str) else out
        w = Panels(64, FORMATS[kind], x.width, out.width)
        self.ops.append(Linear(w=w, x=x, out=out, add=add))
        return out

    def glu(self, gate: Rows | None, up: Rows, out: str) -> Rows:
        """An activation."""
        rows = self.rows(out, up.width)
        self.ops.append(Glu(activation="silu", gate=gate, up=up, out=rows))
        return rows


def kernels(ops: list[Op]) -> list[str]:
    """Names of the ops."""
    return [op.kernel for op in ops]
