"""Norms of heads, each by a weight of its own (see kernels/ops/attention/head_norm.py)."""

from __future__ import annotations

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.attention.head_norm import HeadNorm
from slotmux.runtime.lowering.builder import Builder


def norm_heads(
    b: Builder, x: Rows, tensor: str, head_dim: int, eps: float, kind: str = "layer"
) -> None:
    """Norm (layer or rms) of each head of x in place, by its own row of ``tensor``."""
    n_head = x.width // head_dim
    weight = b.weights.vector(tensor, head_dim, n_head)
    b.append(HeadNorm(kind=kind, x=x, weight=weight, n_head=n_head, head_dim=head_dim, eps=eps))
