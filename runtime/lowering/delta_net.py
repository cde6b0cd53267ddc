"""Gated DeltaNet's recurrence and its gated norm (kernels/ops/recurrent)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.recurrent.delta_net import (
    DELTA,
    build_delta_net,
    pending_floats,
    scratch_bytes,
)
from slotmux.kernels.ops.recurrent.delta_rule import block_vectors
from slotmux.kernels.ops.recurrent.gated_norm import GATED_NORM, build_gated_norm
from slotmux.kernels.ops.recurrent.gated_norm import scratch_bytes as norm_scratch_bytes
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
    d, n_heads = shape.d, len(shape.k_heads)
    assert d % 16 == 0
    assert q.stride == k.stride == v.stride
    assert alpha.stride == beta.stride
    name_of_heads = f"k_heads{shape.n_k_heads}:{hash(shape.k_heads):x}"
    heads = b.buffers.table(name_of_heads, n_heads, np.int32)
    heads.array[:] = shape.k_heads
    # No producer of tiles: the norm of whole heads comes next, and quantises what it makes.
    out = b.buffers.rows(name, n_heads * d)
    n_vectors = block_vectors(d)
    b.append_recurrent(
        f"delta_net.{n_vectors}",
        lambda: build_delta_net(n_vectors),
        DELTA,
        {
            "q": q.address,
            "k": k.address,
            "v": v.address,
            "stride": q.stride,
            "alpha": alpha.address,
            "b": beta.address,
            "gate_stride": alpha.stride,
            "a": a,
            "dt_bias": dt_bias,
            "k_heads": heads.address,
            "n_heads": n_heads,
            "d": d,
            "eps": b.scalar(shape.eps),
            "out": out.address,
            "out_stride": out.stride,
        },
        [rows.span for rows in (q, k, v, alpha, beta)],
        [out.span],
        n_heads * d * d,
        pending_floats(n_heads, d),
        scratch_bytes(d),
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
    op = b.append_raw(
        f"gated_norm.{activation}",
        lambda: build_gated_norm(activation),
        GATED_NORM,
        {
            "x": x.address,
            "x_stride": x.stride,
            "z": z.address,
            "z_stride": z.stride,
            "weight": weight,
            "eps": b.scalar(eps),
            "n_heads": x.width // d,
            "d": d,
            "out": 0,
            "out_stride": out.stride,
            "tiles": 0,
        },
        [x.span, z.span],
        [out.span],
        norm_scratch_bytes(d),
    )
    return b.producer(out, op)
