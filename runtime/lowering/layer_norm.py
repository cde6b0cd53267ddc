"""Layer norm with a bias (see kernels/ops/dense/layer_norm.py)."""

from __future__ import annotations

from slotmux.kernels.ops.dense.layer_norm import LAYER_NORM, build_layer_norm
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder


def layer_norm(
    b: Builder,
    x: Rows,
    tensor: str,
    eps: float,
    name: str = "norm",
    n_rows: str = "n_tokens",
    capacity: int = 0,
) -> Rows:
    """Layer norm of x by ``tensor``.weight and, if the file has it, ``tensor``.bias."""
    return _append(b, x, tensor, eps, name, 0, n_rows, capacity)


def layer_norm_outputs(b: Builder, x: Rows, tensor: str, eps: float, capacity: int) -> Rows:
    """The same of the output rows alone, at most ``capacity``."""
    index = b.step_address("out_tokens")
    return _append(b, x, tensor, eps, "output_norm", index, "n_outputs", capacity)


def _append(
    b: Builder, x: Rows, tensor: str, eps: float, name: str, index: int, n_rows: str, capacity: int
) -> Rows:
    out = b.buffers.rows(name, x.width, capacity)
    bias = f"{tensor}.bias"
    op = b.append(
        "layer_norm",
        build_layer_norm,
        LAYER_NORM,
        {
            "x": x.floats().address,
            "x_stride": x.stride,
            "index": index,
            "n_rows": b.count(n_rows),
            "n": x.width,
            "weight": b.weights.vector(f"{tensor}.weight", x.width),
            "bias": b.weights.vector(bias, x.width) if b.weights.optional(bias) else 0,
            "eps": b.scalar(eps),
            "out": out.address,
            "out_stride": out.stride,
            "tiles": 0,
        },
        [x.span],
        [out.span, out.tiles_span],
    )
    return b.producer(out, op, capacity)
