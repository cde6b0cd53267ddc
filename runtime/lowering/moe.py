"""The mixture-of-experts block: routing, grouping, the experts' products and their sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotmux.kernels.float_tile import form_of
from slotmux.kernels.formats.panels import Experts
from slotmux.kernels.operands import Activations, Count, Form, Narrowed, Rows, Table, round_up
from slotmux.kernels.ops.dense.narrow import narrow_width
from slotmux.kernels.ops.moe.experts import ExpertGlu, ExpertProducts
from slotmux.kernels.ops.moe.route import (
    COUNT_ROWS,
    COUNT_WORDS,
    GROUP_WORDS,
    Combine,
    Gather,
    Group,
    Route,
)
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class MoeShape:
    """How a layer's experts are chosen and what each computes.

    ``scores`` softmax or sigmoid over all experts; ``renormalise`` makes the chosen weights sum
    to 1 before ``scale``; ``activation`` silu, gelu or relu2, of the gate half if there is one.
    """

    n_expert: int
    n_used: int
    n_ff: int
    scores: str = "softmax"
    renormalise: bool = True
    scale: float = 1.0
    activation: str = "silu"
    has_gate: bool = True


@dataclass(frozen=True, slots=True)
class _Groups:
    """The step's (token, rank) pairs sorted by expert (see kernels/ops/moe/route.py)."""

    place: Table[np.int32]
    weights: Table[np.float32]
    table: Table[np.int64]
    counts: Table[np.int64]
    n_rows: Count  # in the groups' whole tiles


def moe(
    b: Builder,
    blk: str,
    x: Rows,
    shape: MoeShape,
    residual: Rows,
    shared: Rows | None = None,
    shared_gate: Rows | None = None,
) -> None:
    """residual += sum of the chosen experts' results for x, by the tensors ``blk``.ffn_*_exps.

    ``shared``: rows of a shared expert to add as well, times sigmoid(``shared_gate``) [n, 1]."""
    assert shared is not None or shared_gate is None
    groups = _group(b, blk, x, shape)
    n_ff, n_expert = shape.n_ff, shape.n_expert
    names = [f"{blk}.ffn_{n}_exps.weight" for n in (("gate", "up") if shape.has_gate else ("up",))]
    hidden = b.buffers.rows("expert_gate_up", round_up(n_ff, 16) * len(names), groups.n_rows)
    parts = [hidden.columns(round_up(n_ff, 16) * i, n_ff) for i in range(len(names))]
    if b.weights.can_join(*names) and n_ff % 16 == 0:
        joined = b.weights.experts(names, x.width, [n_ff] * len(names), n_expert)
        products = [(joined, hidden)]
    else:
        products = [
            (b.weights.experts([name], x.width, [n_ff], n_expert), part)
            for name, part in zip(names, parts, strict=True)
        ]
    gathered: dict[Form, Activations] = {}
    for weight, out in products:
        form = form_of(weight.format)
        if form not in gathered:
            gathered[form] = _gather(b, x, groups, shape.n_used, form)
        _products(b, weight, gathered[form], out, groups)
    glu = b.buffers.rows("expert_glu", n_ff, groups.n_rows)
    b.append(
        ExpertGlu(
            activation=shape.activation,
            place=groups.place,
            n_used=shape.n_used,
            gate=parts[0] if shape.has_gate else None,
            up=parts[-1],
            out=glu,
        )
    )
    down = b.weights.experts([f"{blk}.ffn_down_exps.weight"], n_ff, [residual.width], n_expert)
    y = b.buffers.rows("expert_down", residual.width, groups.n_rows)
    _products(b, down, glu, y, groups)
    b.append(
        Combine(
            place=groups.place,
            weights=groups.weights,
            n_used=shape.n_used,
            y=y,
            out=residual,
            shared=shared,
            shared_gate=shared_gate,
        )
    )


def _group(b: Builder, blk: str, x: Rows, shape: MoeShape) -> _Groups:
    """Choose each token's experts and sort the pairs by expert."""
    n_expert, n_used = shape.n_expert, shape.n_used
    assert 0 < n_used <= n_expert
    name = f"experts[{n_expert},{n_used}]"
    n_pairs = b.buffers.n_rows * n_used
    counts = b.buffers.table(f"{name}:{blk}:counts", COUNT_WORDS, np.int64)
    n_rows = Count(counts.address + COUNT_ROWS, n_pairs + 7 * min(n_expert, n_pairs), counts.span)
    groups = _Groups(
        b.buffers.table(f"{name}:place", n_pairs, np.int32),
        b.buffers.table(f"{name}:weights", n_pairs, np.float32),
        b.buffers.table(f"{name}:table", n_expert * GROUP_WORDS, np.int64),
        counts,
        n_rows,
    )
    b.append(
        Group(
            ids=_route(b, blk, x, shape, groups),
            n_used=n_used,
            n_expert=n_expert,
            place=groups.place,
            starts=b.buffers.table(f"{name}:starts", n_expert + 1, np.int64),
            table=groups.table,
            counts=counts,
        )
    )
    return groups


def _route(b: Builder, blk: str, x: Rows, shape: MoeShape, groups: _Groups) -> Table[np.int32]:
    """Each token's experts; their weights go to the groups'."""
    router = b.weights.matrix(f"{blk}.ffn_gate_inp.weight", x.width, shape.n_expert)
    logits, bias = b.linear(x, router, "router"), f"{blk}.exp_probs_b.bias"
    has_bias = b.weights.optional(bias)
    n_pairs = b.buffers.n_rows * shape.n_used
    ids = b.buffers.table(f"experts[{shape.n_expert},{shape.n_used}]:ids", n_pairs, np.int32)
    b.append(
        Route(
            scores=shape.scores,
            logits=logits,
            bias=b.weights.vector(bias, shape.n_expert) if has_bias else None,
            n_used=shape.n_used,
            renormalise=shape.renormalise,
            scale=shape.scale,
            ids=ids,
            weights=groups.weights,
        )
    )
    return ids


def _gather(b: Builder, x: Rows, groups: _Groups, n_used: int, form: Form) -> Activations:
    """x by place in one of the forms."""
    rows = b.buffers.rows(f"expert_in:{form}", x.width, groups.n_rows)
    tiles = b.buffers.tiles(rows) if form == "tiles" else None
    out: Rows | Narrowed | None = rows if form == "floats" else None
    if form == "bf16":
        out = b.buffers.narrowed(rows, narrow_width(b.kernels.cpu.isa, x.width))
    b.append(Gather(place=groups.place, n_used=n_used, x=x, out=out, out_tiles=tiles))
    made = tiles or out
    assert made is not None
    return made


def _products(b: Builder, weight: Experts, x: Activations, out: Rows, groups: _Groups) -> None:
    """Each expert's matrix times its rows of x."""
    b.append(ExpertProducts(w=weight, x=x, counts=groups.counts, table=groups.table, out=out))
