"""What each layer gets of a token beside the residual stream: embeddings of its own (Gemma)."""

from __future__ import annotations

import math

import numpy as np

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.dense.group_norm import GroupNorm
from slotmux.kernels.ops.dense.lookup import Lookup
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
    embeddings = rows.columns(0, n)
    table = b.weights.table("per_layer_token_embd.weight", n, n_vocab)
    b.append(Lookup(source=table, scale=math.sqrt(width / 2), out=embeddings))
    weight = b.weights.matrix("per_layer_model_proj.weight", x.width, n)
    norm = b.weights.vector("per_layer_proj_norm.weight", width)
    b.append(
        GroupNorm(
            x=b.linear(x, weight, "per_layer_proj"),
            n_groups=n_layers,
            width=width,
            weight=b.weights.constant(norm * np.float32(math.sqrt(0.5))),
            # Of x / sqrt(n_embd): the same norm with a smaller eps needs no factor.
            eps=eps * x.width,
            out=embeddings,
        )
    )
    return [rows.columns(i * width, width) for i in range(n_layers + 1)]
