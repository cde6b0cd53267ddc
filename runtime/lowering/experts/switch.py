"""Adapters (Hu et al. 2021, LoRA) that the model's own file holds, one for each token of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.float_tile import form_of
from slotmux.kernels.operands import Rows, round_up
from slotmux.kernels.ops.moe.route import Combine
from slotmux.kernels.ops.moe.switch import Switch
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import Groups, gathered, group, products_of, tables


def switched(b: Builder, called: NDArray[np.int32], n_adapters: int) -> Groups:
    """The step's tokens grouped by adapter (0: none); ``called`` [n_vocab]: which a token calls."""
    groups = tables(b, "adapters", "all", n_adapters + 1, 1)
    tokens = b.step_address("tokens")
    b.append(Switch(called=called, tokens=tokens, ids=groups.ids, weights=groups.weights))
    group(b, groups, n_adapters + 1, 1)
    return groups


def add_adapters(
    b: Builder,
    groups: Groups,
    n_adapters: int,
    rank: int,
    x: Rows,
    outs: Sequence[tuple[str, Rows]],
) -> None:
    """out += B A x of each (tensors, out), by each token's own A [rank, x] and B [out, rank]."""
    n, inputs = n_adapters + 1, {}
    for name, out in outs:
        a = b.weights.experts([f"{name}.lora_a"], x.width, [rank], n)
        form = form_of(a.format)
        if form not in inputs:
            inputs[form] = gathered(b, x, groups, 1, form)
        low = b.buffers.rows("lora_low", rank, groups.n_rows)
        products_of(b, a, inputs[form], low, groups)
        up = b.weights.experts([f"{name}.lora_b"], rank, [out.width], n)
        y = b.buffers.rows("lora_out", round_up(out.width, 16), groups.n_rows)
        products_of(b, up, low, y, groups)
        b.append(
            Combine(
                ids=groups.ids, place=groups.place, weights=groups.weights, n_used=1, y=y, out=out,
                shared=None, shared_gate=None,
            )
        )  # fmt: skip
