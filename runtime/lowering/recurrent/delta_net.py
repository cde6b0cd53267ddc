"""Gated DeltaNet's recurrence and its gated norm (kernels/ops/recurrent)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.recurrent.delta_net import DeltaNet
from slotmux.kernels.ops.recurrent.gated_norm import GatedNorm
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class DeltaShape:
    """One layer's heads: ``k_heads[h]`` is the q and k head of v head h; ``d`` their size."""

    n_k_heads: int
    k_heads: tuple[int, ...]
    d: int
    eps: float

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Widths of q, k and v."""
        n_k = self.n_k_heads * self.d
        return n_k, n_k, len(self.k_heads) * self.d


def delta_net(
    b: Builder,
    shape: DeltaShape,
    qkv: Sequence[Rows],
    alpha: Rows,
    beta: Rows,
    a: NDArray[np.float32],
    dt_bias: NDArray[np.float32],
    name: str = "delta_net",
) -> Rows:
    """The recurrence over q, k and v: [n_tokens, n_heads * d].

    ``alpha`` and ``beta`` [n_tokens, n_heads] before softplus and sigmoid; the state is the
    sequence's own."""
    q, k, v = qkv
    assert shape.d % 16 == 0
    n_heads = len(shape.k_heads)
    name_of_heads = f"k_heads{shape.n_k_heads}:{hash(shape.k_heads):x}"
    heads = b.buffers.table(name_of_heads, n_heads, np.int32)
    heads.array[:] = shape.k_heads
    out = b.buffers.rows(name, n_heads * shape.d)
    b.append(
        DeltaNet(
            d=shape.d,
            q=q,
            k=k,
            v=v,
            alpha=alpha,
            b=beta,
            a=a,
            dt_bias=dt_bias,
            k_heads=heads.array,
            eps=shape.eps,
            out=out,
        )
    )
    return out


def gated_norm(
    b: Builder,
    x: Rows,
    z: Rows,
    weight: NDArray[np.float32],
    eps: float,
    name: str = "gated_norm",
    activation: str = "silu",
) -> Rows:
    """RMS norm of each head of ``weight.size`` columns, then times the activation of z (silu or
    sigmoid)."""
    d = weight.size
    assert x.width == z.width
    assert x.width % d == 0
    out = b.buffers.rows(name, x.width)
    b.append(GatedNorm(gate=activation, x=x, z=z, weight=weight, eps=eps, out=out))
    return out
