"""Kimi Delta Attention (see kernels/ops/recurrent/kda.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.recurrent.delta_net import block_vectors
from slotmux.kernels.ops.recurrent.kda import KDA, build_kda, pending_floats, scratch_bytes
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
    a: NDArray[np.float32],
    dt_bias: NDArray[np.float32],
    name: str = "kda",
) -> Rows:
    """The recurrence over q, k and v: [n_tokens, n_heads * d].

    ``f`` [n_tokens, n_heads * d] and ``beta`` [n_tokens, n_heads] before their functions; the state
    is the sequence's own."""
    q, k, v = qkv
    n_heads, d = shape.n_heads, shape.d
    assert d % 16 == 0
    assert q.stride == k.stride == v.stride
    out = b.buffers.rows(name, shape.width)
    n_vectors, is_bounded = block_vectors(d), shape.bound != 0.0
    b.append_recurrent(
        f"kda.{n_vectors}.{'bounded' if is_bounded else 'softplus'}",
        lambda: build_kda(n_vectors, is_bounded),
        KDA,
        {
            "q": q.address,
            "k": k.address,
            "v": v.address,
            "stride": q.stride,
            "f": f.address,
            "f_stride": f.stride,
            "b": beta.address,
            "b_stride": beta.stride,
            "a": a,
            "dt_bias": dt_bias,
            "bound": b.scalar(shape.bound),
            "n_heads": n_heads,
            "d": d,
            "eps": b.scalar(shape.eps),
            "out": out.address,
            "out_stride": out.stride,
        },
        [rows.span for rows in (q, k, v, f, beta)],
        [out.span],
        n_heads * d * d,
        pending_floats(n_heads, d, n_vectors),
        scratch_bytes(d, n_vectors),
    )
    return out
