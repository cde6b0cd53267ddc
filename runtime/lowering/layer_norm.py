"""Layer norm with a bias (see kernels/ops/dense/layer_norm.py)."""

from __future__ import annotations

from slotmux.kernels.operands import Address, Rows
from slotmux.kernels.ops.dense.layer_norm import LayerNorm
from slotmux.runtime.lowering.builder import Builder


def layer_norm(b: Builder, x: Rows, tensor: str, eps: float, name: str = "norm") -> Rows:
    """Layer norm of x by ``tensor``.weight and, if the file has it, ``tensor``.bias."""
    out = b.buffers.rows(name, x.width, x.n_rows)
    return _append(b, x, tensor, eps, out, Address(0))


def layer_norm_outputs(b: Builder, x: Rows, tensor: str, eps: float, most: int) -> Rows:
    """The same of the rows alone that get logits, at most ``most``."""
    out = b.buffers.rows("output_norm", x.width, b.outputs(most))
    return _append(b, x, tensor, eps, out, b.step_address("out_tokens"))


def layer_norm_to(b: Builder, x: Rows, tensor: str, eps: float, to: Rows) -> None:
    """The same of x into rows that there are."""
    _append(b, x, tensor, eps, to, Address(0))


def _append(b: Builder, x: Rows, tensor: str, eps: float, out: Rows, index: Address) -> Rows:
    bias = f"{tensor}.bias"
    b.append(
        LayerNorm(
            x=x,
            index=index,
            n_rows=out.n_rows,
            weight=b.weights.vector(f"{tensor}.weight", x.width),
            bias=b.weights.vector(bias, x.width) if b.weights.optional(bias) else None,
            eps=eps,
            out=out,
        )
    )
    return out
