"""What each layer gets of a token beside the residual stream: embeddings of its own (Gemma)."""

from __future__ import annotations

import math

import numpy as np

from slotmux.kernels.ops.dense.group_norm import GROUP_NORM, build_group_norm
from slotmux.kernels.ops.dense.lookup import LOOKUP, build_lookup, lookup_scratch_bytes
from slotmux.runtime.lowering.buffers import Rows, Span
from slotmux.runtime.lowering.builder import Builder


def per_layer_inputs(
    b: Builder, x: Rows, width: int, n_layers: int, n_vocab: int, eps: float
) -> list[Rows]:
    """(sqrt(width) e + norm(P x / sqrt(n_embd)) w) / sqrt(2), for each layer its ``width`` columns,
    where e is the token's row of per_layer_token_embd and x its scaled embedding. Behind the last
    layer's is room for ``width`` more."""
    if width % 16:
        name = "per_layer_token_embd.weight"
        b.weights.refuse(name, f"{width} columns for a layer, which is no multiple of 16")
    n = n_layers * width
    rows = b.buffers.rows("per_layer", n + width)
    table = b.weights.table("per_layer_token_embd.weight", n, n_vocab)
    b.append(
        f"lookup.{table.format.name}",
        lambda: build_lookup(table.format.name),
        LOOKUP,
        {
            "source": table.address,
            "row_bytes": table.row_bytes,
            "n_inputs": n,
            "scale": b.scalar(math.sqrt(width / 2)),
            "out": rows.address,
            "out_stride": rows.stride,
        },
        [Span("step")],
        [rows.columns(0, n).span],
        lookup_scratch_bytes(table.format),
    )
    weight = b.weights.matrix("per_layer_model_proj.weight", x.width, n)
    y = b.linear(x.columns(0, x.width), weight, "per_layer_proj")
    norm = b.weights.vector("per_layer_proj_norm.weight", width)
    b.append(
        "group_norm",
        build_group_norm,
        GROUP_NORM,
        {
            "x": y.address,
            "x_stride": y.stride,
            "n_groups": n_layers,
            "width": width,
            "weight": b.weights.constant(norm * np.float32(math.sqrt(0.5))),
            # Of x / sqrt(n_embd): the same norm with a smaller eps needs no factor.
            "eps": b.scalar(eps * x.width),
            "out": rows.address,
            "out_stride": rows.stride,
        },
        [y.span, rows.columns(0, n).span],
        [rows.columns(0, n).span],
    )
    return [rows.columns(i * width, width) for i in range(n_layers + 1)]
