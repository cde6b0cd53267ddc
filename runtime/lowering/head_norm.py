"""Layer norms of the heads of q and k (see kernels/ops/attention/head_norm.py)."""

from __future__ import annotations

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.attention.head_norm import HeadLayerNorm
from slotmux.runtime.lowering.builder import Builder


def norm_heads(b: Builder, x: Rows, tensor: str, head_dim: int, eps: float) -> None:
    """Layer norm of each head of x in place, by its own row of ``tensor``."""
    n_head = x.width // head_dim
    weight = b.weights.vector(tensor, head_dim, n_head)
    b.append(HeadLayerNorm(x=x, weight=weight, n_head=n_head, head_dim=head_dim, eps=eps))
