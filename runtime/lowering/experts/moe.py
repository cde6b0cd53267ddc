"""The mixture-of-experts block: routing, grouping, the experts' products and their sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotmux.kernels.float_tile import form_of
from slotmux.kernels.formats.panels import Experts
from slotmux.kernels.operands import (
    Activations,
    Count,
    Form,
    Narrowed,
    Rows,
    Table,
    Tiles,
    Vector,
    round_up,
)
from slotmux.kernels.ops.dense.narrow import narrow_width
from slotmux.kernels.ops.moe.experts import ExpertGlu, ExpertProducts
from slotmux.kernels.ops.moe.gated import ExpertGated, can_gate_experts
from slotmux.kernels.ops.moe.gather import Gather
from slotmux.kernels.ops.moe.route import (
    COUNT_ROWS,
    COUNT_WORDS,
    GROUP_WORDS,
    Combine,
    Group,
    Route,
)
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class MoeShape:
    """How a layer's experts are chosen and what each computes.

    ``scores`` softmax or sigmoid over all experts, or (chosen) softmax over the chosen ones;
    of ``n_groups`` groups of neighbours the ``n_groups_used`` best are chosen from;
    ``renormalise`` makes the chosen weights sum to 1 before ``scale``; ``activation`` one of
    GATED_ACTIVATIONS, of the gate half if there is one.
    """

    n_expert: int
    n_used: int
    n_ff: int
    scores: str = "softmax"
    renormalise: bool = True
    scale: float = 1.0
    activation: str = "silu"
    has_gate: bool = True
    n_groups: int = 1
    n_groups_used: int = 1


@dataclass(frozen=True, slots=True)
class Groups:
    """The step's (token, rank) pairs sorted by expert (see kernels/ops/moe/route.py)."""

    ids: Table[np.int32]
    place: Table[np.int32]
    sources: Table[np.int32]
    weights: Table[np.float32]
    table: Table[np.int64]
    counts: Table[np.int64]
    n_rows: Count  # in the groups' whole tiles
    starts: Table[np.int64]  # working memory


def moe(
    b: Builder,
    blk: str,
    x: Rows,
    shape: MoeShape,
    residual: Rows,
    shared: Rows | None = None,
    shared_gate: Rows | None = None,
    *,
    groups: Groups | None = None,
    add: bool = True,
) -> None:
    """residual += sum of the chosen experts' results for x, by the tensors ``blk``.ffn_*_exps.

    ``shared``: rows of a shared expert to add as well, times sigmoid(``shared_gate``) [n, 1];
    ``groups``: see ``routed``, by x if nothing is said; without ``add`` residual is overwritten."""
    assert shared is not None or shared_gate is None
    groups = groups or routed(b, blk, x, shape)
    n_expert, width = shape.n_expert, residual.width
    first = _first_weights(b, blk, x.width, shape)
    down = b.weights.experts([f"{blk}.ffn_down_exps.weight"], shape.n_ff, [width], n_expert)
    hidden = _hidden(b, blk, x, shape, groups, first, form_of(down.format))
    y = b.buffers.rows("expert_down", width, groups.n_rows)
    products_of(b, down, hidden, y, groups)
    b.append(
        Combine(
            ids=groups.ids,
            place=groups.place,
            weights=groups.weights,
            n_used=shape.n_used,
            y=y,
            bias=_vector(b, f"{blk}.ffn_down_exps.bias", width, n_expert),
            out=residual,
            add=add,
            shared=shared,
            shared_gate=shared_gate,
        )
    )


def _first_weights(b: Builder, blk: str, n_in: int, shape: MoeShape) -> list[Experts]:
    """The experts' first matrices: gate's outputs (if any) and up's in one, or one each."""
    n_ff, n_expert = shape.n_ff, shape.n_expert
    halves = ("gate", "up") if shape.has_gate else ("up",)
    names, fused = [f"{blk}.ffn_{n}_exps.weight" for n in halves], f"{blk}.ffn_gate_up_exps.weight"
    # Each layer for itself, as llama.cpp reads them: converters fuse what they find side by side.
    if shape.has_gate and b.weights.has(fused):
        return [b.weights.experts([fused], n_in, [2 * n_ff], n_expert)]
    if b.weights.can_join(*names) and n_ff % 16 == 0:
        return [b.weights.experts(names, n_in, [n_ff] * len(names), n_expert)]
    return [b.weights.experts([name], n_in, [n_ff], n_expert) for name in names]


def _hidden(
    b: Builder,
    blk: str,
    x: Rows,
    shape: MoeShape,
    groups: Groups,
    weights: list[Experts],
    wanted: Form,
) -> Activations:
    """act(gate x, up x) of the chosen experts, by place."""
    biases = [
        _vector(b, f"{blk}.ffn_{n}_exps.bias", shape.n_ff, shape.n_expert) for n in ("gate", "up")
    ]
    if wanted != "tiles" or len(weights) > 1 or not can_gate_experts(weights[0], shape.n_ff):
        return _hidden_in_steps(b, x, shape, groups, weights, biases)
    tiles = b.buffers.tiles_alone("expert_hidden", shape.n_ff, groups.n_rows)
    inputs = gathered(b, x, groups, shape.n_used, "tiles")
    assert isinstance(inputs, Tiles)
    b.append(
        ExpertGated(
            activation=shape.activation,
            w=weights[0],
            has_gate=shape.has_gate,
            gate_bias=biases[0],
            up_bias=biases[1],
            x=inputs,
            counts=groups.counts,
            table=groups.table,
            tiles=tiles,
        )
    )
    return tiles


def _hidden_in_steps(
    b: Builder,
    x: Rows,
    shape: MoeShape,
    groups: Groups,
    weights: list[Experts],
    biases: list[Vector | None],
) -> Rows:
    """The same by an op for each product and one for the activation."""
    n_parts, n_rows = 2 if shape.has_gate else 1, groups.n_rows
    width = shape.n_ff if len(weights) == 1 else round_up(shape.n_ff, 16)
    hidden = b.buffers.rows("expert_gate_up", width * n_parts, n_rows)
    parts = [hidden.columns(width * i, shape.n_ff) for i in range(n_parts)]
    inputs: dict[Form, Activations] = {}
    for weight, out in zip(weights, [hidden] if len(weights) == 1 else parts, strict=True):
        form = form_of(weight.format)
        if form not in inputs:
            inputs[form] = gathered(b, x, groups, shape.n_used, form)
        products_of(b, weight, inputs[form], out, groups)
    glu = b.buffers.rows("expert_glu", shape.n_ff, n_rows)
    b.append(
        ExpertGlu(
            activation=shape.activation,
            ids=groups.ids,
            place=groups.place,
            n_used=shape.n_used,
            gate=parts[0] if shape.has_gate else None,
            up=parts[-1],
            gate_bias=biases[0],
            up_bias=biases[1],
            out=glu,
        )
    )
    return glu


def _vector(b: Builder, name: str, *shape: int) -> Vector | None:
    """A tensor of the file, if it has it."""
    return b.weights.vector(name, *shape) if b.weights.optional(name) else None


def routed(b: Builder, blk: str, x: Rows, shape: MoeShape) -> Groups:
    """Choose each token's experts by x and sort the pairs by expert; good until others of this
    shape are chosen."""
    assert 0 < shape.n_used <= shape.n_expert
    groups = tables(
        b, f"experts[{shape.n_expert},{shape.n_used}]", blk, shape.n_expert, shape.n_used
    )
    _route(b, blk, x, shape, groups)
    group(b, groups, shape.n_expert, shape.n_used)
    return groups


def tables(b: Builder, name: str, blk: str, n_expert: int, n_used: int) -> Groups:
    """Room for the choice of a layer and for its pairs in order."""
    n_pairs = b.buffers.n_rows * n_used
    counts = b.buffers.table(f"{name}:{blk}:counts", COUNT_WORDS, np.int64)
    n_rows = Count(counts.address + COUNT_ROWS, n_pairs + 7 * min(n_expert, n_pairs), counts.span)
    return Groups(
        b.buffers.table(f"{name}:ids", n_pairs, np.int32),
        b.buffers.table(f"{name}:place", n_pairs, np.int32),
        b.buffers.table(f"{name}:sources", round_up(n_rows.most, 8), np.int32),
        b.buffers.table(f"{name}:weights", n_pairs, np.float32),
        b.buffers.table(f"{name}:table", n_expert * GROUP_WORDS, np.int64),
        counts,
        n_rows,
        b.buffers.table(f"{name}:starts", n_expert + 1, np.int64),
    )


def group(b: Builder, groups: Groups, n_expert: int, n_used: int) -> None:
    """Sort the pairs whose experts are chosen."""
    b.append(
        Group(
            ids=groups.ids,
            n_used=n_used,
            n_expert=n_expert,
            place=groups.place,
            sources=groups.sources,
            starts=groups.starts,
            table=groups.table,
            counts=groups.counts,
        )
    )


def _route(b: Builder, blk: str, x: Rows, shape: MoeShape, groups: Groups) -> None:
    """Each token's experts and their weights."""
    assert shape.n_expert % shape.n_groups == 0
    router = b.weights.matrix(f"{blk}.ffn_gate_inp.weight", x.width, shape.n_expert)
    logits = b.linear(x, router, "router")
    bias = _vector(b, f"{blk}.ffn_gate_inp.bias", shape.n_expert)
    if bias is not None:
        b.add_bias(logits, bias)
    b.append(
        Route(
            scores=shape.scores,
            logits=logits,
            bias=_vector(b, f"{blk}.exp_probs_b.bias", shape.n_expert),
            n_groups=shape.n_groups,
            n_groups_used=shape.n_groups_used,
            n_used=shape.n_used,
            renormalise=shape.renormalise,
            scale=shape.scale,
            expert_scale=_vector(b, f"{blk}.ffn_down_exps.scale", shape.n_expert),
            ids=groups.ids,
            weights=groups.weights,
        )
    )


def gathered(b: Builder, x: Rows, groups: Groups, n_used: int, form: Form) -> Activations:
    """x by place in one of the forms."""
    name, out, tiles = f"expert_in:{form}", None, None
    if form == "tiles":
        tiles = b.buffers.tiles_alone(name, x.width, groups.n_rows)
    else:
        out = _gathered_floats(b, b.buffers.rows(name, x.width, groups.n_rows), form)
    b.append(
        Gather(
            place=groups.place,
            sources=groups.sources,
            counts=groups.counts,
            n_used=n_used,
            x=x,
            out=out,
            out_tiles=tiles,
        )
    )
    made = tiles or out
    assert made is not None
    return made


def _gathered_floats(b: Builder, rows: Rows, form: Form) -> Rows | Narrowed:
    if form == "floats":
        return rows
    return b.buffers.narrowed(rows, narrow_width(b.kernels.cpu.isa, rows.width))


def products_of(b: Builder, weight: Experts, x: Activations, out: Rows, groups: Groups) -> None:
    """Each expert's matrix times its rows of x."""
    compact = isinstance(x, Tiles)  # made by gathered or ExpertGated, not by a pass
    b.append(
        ExpertProducts(
            w=weight, compact=compact, x=x, counts=groups.counts, table=groups.table, out=out
        )
    )
