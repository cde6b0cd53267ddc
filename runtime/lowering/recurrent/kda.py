"""Kimi Delta Attention (see kernels/ops/recurrent/kda.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.kernels.operands import Rows, Vector
from slotmux.kernels.ops.recurrent.kda import Kda
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class KdaShape:
    """One layer's heads of ``d``. ``bound``: lower bound of a decay's logarithm; 0: it has none,
    and its rate comes by softplus."""

    n_heads: int
    d: int
    bound: float
    eps: float

    @property
    def width(self) -> int:
        """Of q, k and v, each."""
        return self.n_heads * self.d


def kda(
    b: Builder,
    shape: KdaShape,
    qkv: Sequence[Rows],
    f: Rows,
    beta: Rows,
    a: Vector,
    dt_bias: Vector,
    name: str = "kda",
) -> Rows:
    """The recurrence over q, k and v: [n_tokens, n_heads * d].

    ``f`` [n_tokens, n_heads * d] and ``beta`` [n_tokens, n_heads] before their functions; the state
    is the sequence's own."""
    q, k, v = qkv
    assert shape.d % 16 == 0
    out = b.buffers.rows(name, shape.width)
    b.append(
        Kda(
            q=q,
            k=k,
            v=v,
            f=f,
            b=beta,
            a=a,
            dt_bias=dt_bias,
            bound=shape.bound,
            n_heads=shape.n_heads,
            d=shape.d,
            eps=shape.eps,
            out=out,
        )
    )
    return out
