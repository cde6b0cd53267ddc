"""The mixture-of-experts block: routing, grouping, the experts' products and their sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.float_tile import rounds_rows
from slotmux.kernels.formats import Format
from slotmux.kernels.ops.dense.linear import unpacking_bytes
from slotmux.kernels.ops.moe.experts import EXPERT_GLU, EXPERTS, build_expert_glu, build_experts
from slotmux.kernels.ops.moe.route import (
    COMBINE,
    COUNT_ROWS,
    COUNT_WORDS,
    GATHER,
    GROUP,
    GROUP_WORDS,
    ROUTE,
    build_combine,
    build_gather,
    build_group,
    build_route,
    route_scratch_bytes,
)
from slotmux.runtime.lowering.buffers import Rows, Span, round_up
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.weights import Experts


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

    span: Span
    ids: NDArray[np.int64]
    place: NDArray[np.int64]
    weights: NDArray[np.int64]
    table: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_rows: int  # most rows that the groups can take


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
    if groups is None:
        groups = routed(b, blk, x, shape)
    n_ff, n_expert = shape.n_ff, shape.n_expert
    products, parts = _inputs(b, blk, x.width, shape, groups.n_rows)
    gathered: dict[str, _Input] = {}
    for weight, out in products:
        form = _form(weight.format)
        if form not in gathered:
            gathered[form] = _gather(b, x, groups, shape.n_used, form)
        _products(b, weight, gathered[form], out, groups)
    down = b.weights.experts([f"{blk}.ffn_down_exps.weight"], n_ff, [residual.width], n_expert)
    gate = parts[0] if shape.has_gate else None
    glu = _glu(b, blk, shape, gate, parts[-1], groups, _form(down.format))
    y = b.buffers.rows("expert_down", residual.width, groups.n_rows)
    _products(b, down, glu, y, groups)
    bias = _bias(b, f"{blk}.ffn_down_exps", y.width, n_expert)
    _combine(b, shape, groups, y, bias, residual, shared, shared_gate, add=add)


def _inputs(
    b: Builder, blk: str, n_in: int, shape: MoeShape, n_rows: int
) -> tuple[list[tuple[Experts, Rows]], list[Rows]]:
    """The experts' first matrices with the rows that each fills; the gate's (if any) and up's."""
    n_ff, n_expert = shape.n_ff, shape.n_expert
    halves = ("gate", "up") if shape.has_gate else ("up",)
    names, fused = [f"{blk}.ffn_{n}_exps.weight" for n in halves], f"{blk}.ffn_gate_up_exps.weight"
    is_fused = shape.has_gate and b.weights.optional(fused)
    width = n_ff if is_fused else round_up(n_ff, 16)
    hidden = b.buffers.rows("expert_gate_up", width * len(names), n_rows)
    parts = [hidden.columns(width * i, n_ff) for i in range(len(names))]
    if is_fused:
        return [(b.weights.experts([fused], n_in, [2 * n_ff], n_expert), hidden)], parts
    if b.weights.can_join(*names) and n_ff % 16 == 0:
        joined = b.weights.experts(names, n_in, [n_ff] * len(names), n_expert)
        return [(joined, hidden)], parts
    apart = [b.weights.experts([name], n_in, [n_ff], n_expert) for name in names]
    return list(zip(apart, parts, strict=True)), parts


def _bias(b: Builder, tensor: str, n: int, n_expert: int) -> NDArray[np.float32] | int:
    """[n_expert, n] that is added to the experts' products, 0 if the file has none."""
    name = f"{tensor}.bias"
    return b.weights.vector(name, n, n_expert) if b.weights.optional(name) else 0


def routed(b: Builder, blk: str, x: Rows, shape: MoeShape) -> Groups:
    """Choose each token's experts by x and sort the pairs by expert; good until others of this
    shape are chosen."""
    n_expert, n_used = shape.n_expert, shape.n_used
    assert 0 < n_used <= n_expert
    name = f"experts[{n_expert},{n_used}]"
    n_pairs = b.buffers.n_rows * n_used
    ids, place, weights = (
        b.buffers.words(f"{name}:{part}", n_pairs) for part in ("ids", "place", "weights")
    )
    groups = Groups(
        Span(name),
        ids,
        place,
        weights,
        b.buffers.words(f"{name}:table", n_expert * GROUP_WORDS),
        b.buffers.words(f"{name}:{blk}:counts", COUNT_WORDS),
        n_pairs + 7 * min(n_expert, n_pairs),
    )
    _route(b, blk, x, shape, groups)
    b.append(
        "group",
        build_group,
        GROUP,
        {
            "ids": ids,
            "n_used": n_used,
            "n_expert": n_expert,
            "place": place,
            "starts": b.buffers.words(f"{name}:starts", n_expert + 1),
            "table": groups.table,
            "counts": groups.counts,
        },
        [groups.span],
        [groups.span],
    )
    return groups


def _route(b: Builder, blk: str, x: Rows, shape: MoeShape, groups: Groups) -> None:
    """Each token's experts, and their weights."""
    assert shape.n_expert % shape.n_groups == 0
    router = b.weights.matrix(f"{blk}.ffn_gate_inp.weight", x.width, shape.n_expert)
    logits = b.linear(x, router, "router")
    if b.weights.optional(f"{blk}.ffn_gate_inp.bias"):
        b.add_bias(logits, b.weights.vector(f"{blk}.ffn_gate_inp.bias", shape.n_expert))
    bias, of_expert = (
        b.weights.vector(name, shape.n_expert) if b.weights.optional(name) else 0
        for name in (f"{blk}.exp_probs_b.bias", f"{blk}.ffn_down_exps.scale")
    )
    b.append(
        f"route.{shape.scores}",
        lambda: build_route(shape.scores),
        ROUTE,
        {
            "logits": logits.address,
            "stride": logits.stride,
            "n_expert": shape.n_expert,
            "bias": bias,
            "n_groups": shape.n_groups,
            "n_groups_used": shape.n_groups_used,
            "n_used": shape.n_used,
            "renormalise": int(shape.renormalise),
            "scale": b.scalar(shape.scale),
            "expert_scale": of_expert,
            "ids": groups.ids,
            "weights": groups.weights,
        },
        [logits.span],
        [groups.span],
        route_scratch_bytes(shape.n_expert),
    )


def _form(f: Format) -> str:
    """What products with weights of this format take: tiles, floats, or floats as BF16."""
    if f.is_quantised:
        return "tiles"
    return "bf16" if rounds_rows(f) else "floats"


@dataclass(frozen=True, slots=True)
class _Input:
    """Rows by place: their address, bytes from a row to the next, and what is read."""

    address: int
    stride: int
    span: Span


def _gather(b: Builder, x: Rows, groups: Groups, n_used: int, form: str) -> _Input:
    """x by place in one of the forms."""
    if form == "bf16":
        x = b.narrow(x)
    out = b.buffers.rows(f"expert_in:{form}", x.width, groups.n_rows)
    is_tiles = form == "tiles"
    tiles = b.buffers.tiles(out.buffer, x.width, groups.n_rows) if is_tiles else 0
    b.append(
        "gather",
        build_gather,
        GATHER,
        {
            "place": groups.place,
            "n_used": n_used,
            "x": 0 if is_tiles else x.floats().address,
            "stride": x.stride,
            "n": x.width,
            "out": 0 if is_tiles else out.address,
            "out_stride": out.stride,
            "tiles": b.quantize(x) if is_tiles else 0,
            "out_tiles": tiles,
        },
        [groups.span, x.tiles_span if is_tiles else x.span],
        [out.tiles_span if is_tiles else out.span],
    )
    return _Input(tiles or out.address, out.stride, out.tiles_span if is_tiles else out.span)


def _products(b: Builder, weight: Experts, x: _Input, out: Rows, groups: Groups) -> None:
    """Each expert's matrix times its rows of x."""
    f, isa = weight.format, b.kernels.cpu.isa
    b.append(
        f"experts.{f.name}",
        lambda: build_experts(isa, f.name),
        EXPERTS,
        {
            "w": weight.address,
            "expert_bytes": weight.expert_bytes,
            "x": x.address,
            "x_stride": x.stride,
            "out": out.address,
            "out_stride": out.stride,
            "counts": groups.counts,
            "table": groups.table,
            "n_panels": weight.n_panels,
            "n_blocks": weight.n_blocks,
        },
        [groups.span, x.span],
        [out.span],
        unpacking_bytes(isa, f, weight.n_blocks),
    )


def _glu(
    b: Builder, blk: str, shape: MoeShape, gate: Rows | None, up: Rows, groups: Groups, form: str
) -> _Input:
    """The activation in one of the forms."""
    out = b.buffers.rows("expert_glu", shape.n_ff, groups.n_rows)
    is_tiles = form == "tiles"
    tiles = b.buffers.tiles(out.buffer, shape.n_ff, groups.n_rows) if is_tiles else 0
    b.append(
        f"expert_glu.{shape.activation}",
        lambda: build_expert_glu(shape.activation),
        EXPERT_GLU,
        {
            "ids": groups.ids,
            "place": groups.place,
            "n_used": shape.n_used,
            "gate": gate.address if gate else 0,
            "up": up.address,
            "stride": up.stride,
            "n": shape.n_ff,
            "gate_bias": _bias(b, f"{blk}.ffn_gate_exps", shape.n_ff, shape.n_expert),
            "up_bias": _bias(b, f"{blk}.ffn_up_exps", shape.n_ff, shape.n_expert),
            "out": 0 if is_tiles else out.address,
            "out_stride": out.stride,
            "tiles": tiles,
        },
        [groups.span, up.span, *([gate.span] if gate else [])],
        [out.tiles_span if is_tiles else out.span],
    )
    if form == "bf16":
        n_rows = int(groups.counts.ctypes.data) + COUNT_ROWS
        out = b.append_narrow(out, n_rows, groups.n_rows, [groups.span])
    return _Input(tiles or out.address, out.stride, out.tiles_span if is_tiles else out.span)


def _combine(
    b: Builder,
    shape: MoeShape,
    groups: Groups,
    y: Rows,
    bias: NDArray[np.float32] | int,
    residual: Rows,
    shared: Rows | None,
    shared_gate: Rows | None,
    *,
    add: bool,
) -> None:
    assert shared is not None or shared_gate is None
    b.append(
        "combine",
        build_combine,
        COMBINE,
        {
            "ids": groups.ids,
            "place": groups.place,
            "weights": groups.weights,
            "n_used": shape.n_used,
            "y": y.address,
            "y_stride": y.stride,
            "n": residual.width,
            "bias": bias,
            "out": residual.address,
            "out_stride": residual.stride,
            "add": int(add),
            "shared": shared.address if shared else 0,
            "shared_stride": shared.stride if shared else 0,
            "shared_gate": shared_gate.address if shared_gate else 0,
            "gate_stride": shared_gate.stride if shared_gate else 0,
        },
        [groups.span, y.span]
        + ([residual.span] if add else [])
        + [r.span for r in (shared, shared_gate) if r],
        [residual.span],
    )
