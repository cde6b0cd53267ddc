"""The attention block of a layer: rotation, storing into cells, attention, folding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.attention.attention import (
    ATTENTION,
    build_attention,
    build_latent_attention,
    scratch_bytes,
)
from slotmux.kernels.ops.attention.fold import FOLD, build_attention_fold
from slotmux.kernels.ops.attention.fold import scratch_bytes as fold_scratch_bytes
from slotmux.kernels.ops.attention.plan import PLAN, SPLIT_TOKENS, build_attention_plan
from slotmux.kernels.ops.attention.rope import ROPE, ROPE_TABLE, build_rope, build_rope_table
from slotmux.kernels.ops.attention.tiles import CHUNK
from slotmux.runtime.lowering.buffers import Rows, Span, round_up
from slotmux.runtime.lowering.builder import Builder

# Most memory for the partial results of split sequences: those of four tokens behind 262,144 cells
# with 16 heads of 256. Pages that no step has needed are not there.
PARTIALS_BYTES = 192 << 20


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotary embedding: float64 angle per position of each pair, and how pairs are laid out."""

    frequencies: tuple[float, ...]
    neighbours: bool = False  # pairs (2i, 2i + 1) rather than halves
    magnitude: float = 1.0  # of cos and sin


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """One layer's attention. ``window`` 0: all positions; else the last ``window`` of them."""

    layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    v_dim: int
    scale: float
    rotation: Rotation | None
    eps: float = 0.0
    window: int = 0

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Widths of q, k and v."""
        n_kv = self.n_head_kv
        return self.n_head * self.head_dim, n_kv * self.head_dim, n_kv * self.v_dim


def rope_table(b: Builder, rotation: Rotation) -> tuple[NDArray[np.float32], Span, int, int]:
    """cos and sin of the step's tokens, computed once for all layers that share a rotation."""
    n_pairs = len(rotation.frequencies)
    name = f"rope{hash((rotation.frequencies, rotation.magnitude)) & 0xFFFFFFFFFFFF:x}"
    known = any(op.kernel == "rope_table" and op.writes[0].buffer == name for op in b.ops)
    table = b.buffers.words(name, b.buffers.n_rows * n_pairs)  # cos and sin: two float32
    cos = int(table.ctypes.data)
    sin = cos + 4 * b.buffers.n_rows * n_pairs
    if not known:
        frequencies = b.buffers.words(name + ":frequencies", n_pairs).view(np.float64)
        frequencies[:] = rotation.frequencies
        b.append(
            "rope_table",
            build_rope_table,
            ROPE_TABLE,
            {
                "frequency": frequencies,
                "n_pairs": n_pairs,
                "magnitude": b.scalar(rotation.magnitude),
                "cos": cos,
                "sin": sin,
            },
            [Span("step")],
            [Span(name)],
        )
    return table.view(np.float32), Span(name), cos, sin


def rotate_and_store(
    b: Builder,
    shape: AttentionShape,
    q: Rows,
    k: Rows,
    v: Rows,
    q_norm: NDArray[np.float32] | None = None,
    k_norm: NDArray[np.float32] | None = None,
) -> None:
    """Norm, rotate and scale q and k in place; k and v go into the layer's cells."""
    assert q.stride == k.stride == v.stride
    reads = [q.span, k.span, v.span, Span("step")]
    cos = sin = n_pairs = 0
    neighbours = False
    if shape.rotation is not None:
        _, span, cos, sin = rope_table(b, shape.rotation)
        reads.append(span)
        n_pairs, neighbours = len(shape.rotation.frequencies), shape.rotation.neighbours
    k_type, v_type = b.cells.k_type, b.cells.v_type
    k_cells, v_cells = b.cells.layer(shape.layer, shape.n_head_kv, shape.head_dim, shape.v_dim)
    b.append(
        f"rope.{'neighbours' if neighbours else 'halves'}.{k_type}.{v_type}",
        lambda: build_rope(neighbours, k_type, v_type),
        ROPE,
        {
            "q": q.address,
            "k": k.address,
            "v": v.address,
            "stride": q.stride,
            "n_head": shape.n_head,
            "n_head_kv": shape.n_head_kv,
            "head_dim": shape.head_dim,
            "v_dim": shape.v_dim,
            "n_pairs": n_pairs,
            "cos": cos,
            "sin": sin,
            "q_norm": 0 if q_norm is None else q_norm,
            "k_norm": 0 if k_norm is None else k_norm,
            "eps": b.scalar(shape.eps),
            "scale": b.scalar(shape.scale),
            "k_cells": k_cells,
            "v_cells": v_cells,
        },
        reads,
        [q.span, k.span, Span(f"cells{shape.layer}")],
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    name: str
    counts: NDArray[np.int64]
    split_base: NDArray[np.int64]
    partials: int


def _plan(b: Builder, shape: AttentionShape) -> _Plan:
    """How the step's attention is cut into work items; shared by layers of one shape."""
    group = shape.n_head // shape.n_head_kv
    name = f"plan:{group}:{shape.n_head_kv}:{shape.window}"
    # A long sequence's chunks are folded from partial sums: a numerator and, a vector further,
    # maximum and denominator, of each head and chunk. Memory for them bounds what may be split.
    row_bytes = (round_up(shape.v_dim, 16) + 16) * 4
    seen = min(b.n_ctx, shape.window + SPLIT_TOKENS + CHUNK) if shape.window else b.n_ctx
    most = max(SPLIT_TOKENS, 4 * b.n_slots) * shape.n_head * -(-seen // CHUNK)
    capacity = min(most, PARTIALS_BYTES // row_bytes)
    # Every layer of this shape cuts the step alike: the first one's op plans for all.
    known = any(op.kernel == "attention_plan" and op.writes[0].buffer == name for op in b.ops)
    counts = b.buffers.words(name + ":counts", b.n_slots + 1)
    split_base = b.buffers.words(name + ":split", b.n_slots)
    partials = b.buffers.words(f"partials:{capacity * row_bytes}", capacity * row_bytes // 8)
    if not known:
        b.append(
            "attention_plan",
            build_attention_plan,
            PLAN,
            {
                "counts": counts,
                "split_base": split_base,
                "split_capacity": capacity,
                "group": group,
                "n_head_kv": shape.n_head_kv,
                "window": shape.window,
            },
            [Span("step")],
            [Span(name)],
        )
    return _Plan(name, counts, split_base, int(partials.ctypes.data))


def attend(
    b: Builder,
    shape: AttentionShape,
    q: Rows,
    gate: Rows | None = None,
    gate_head_stride: int = 0,
    name: str = "attention",
    *,
    is_latent: bool = False,
) -> Rows:
    """Attention of q over the layer's cells: [n_tokens, n_head * v_dim].

    ``gate``: rows whose sigmoid scales head h from column h * gate_head_stride on; ``is_latent``:
    cells are latent ones, of one KV head whose first ``v_dim`` dimensions are its values."""
    assert shape.n_head % shape.n_head_kv == 0
    plan = _plan(b, shape)
    k_type, v_type = b.cells.k_type, b.cells.v_type
    if is_latent:
        k_cells, v_cells = b.cells.latent(shape.layer, shape.head_dim, shape.head_dim), 0
        kernel, build = f"attention.latent.{k_type}", lambda: build_latent_attention(k_type)
    else:
        k_cells, v_cells = b.cells.layer(shape.layer, shape.n_head_kv, shape.head_dim, shape.v_dim)
        kernel, build = f"attention.{k_type}.{v_type}", lambda: build_attention(k_type, v_type)
    out = b.buffers.rows(name, shape.n_head * shape.v_dim)
    partials = Span(f"partials:{plan.partials}")
    shared: dict[str, int | NDArray[np.int64]] = {
        "n_head": shape.n_head,
        "v_dim": shape.v_dim,
        "window": shape.window,
        "split_base": plan.split_base,
        "partials": plan.partials,
    }
    b.append(
        kernel,
        build,
        ATTENTION,
        {
            **shared,
            "q": q.address,
            "stride": q.stride,
            "k_cells": k_cells,
            "v_cells": v_cells,
            "n_head_kv": shape.n_head_kv,
            "head_dim": shape.head_dim,
            "counts": plan.counts,
            "out": out.address,
            "out_stride": out.stride,
        },
        [q.span, Span(f"cells{shape.layer}"), Span(plan.name), Span("step")],
        [out.span, partials],
        scratch_bytes(shape.head_dim, shape.v_dim),
    )
    fold = b.append(
        "attention_fold",
        build_attention_fold,
        FOLD,
        {
            **shared,
            "x": out.address,
            "x_stride": out.stride,
            "gate": gate.address if gate else 0,
            "gate_stride": gate.stride if gate else 0,
            "gate_head_stride": 4 * gate_head_stride,
            "tiles": 0,
        },
        [out.span, partials, Span(plan.name), *([gate.span] if gate else [])],
        [out.span, out.tiles_span],
        fold_scratch_bytes(shape.v_dim),
    )
    return b.producer(out, fold)
