"""Multi-head latent attention (see kernels/ops/attention/latent.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.cpu import Isa
from slotmux.kernels.ops.attention.latent import (
    HEADS,
    JOIN,
    PART,
    STORE,
    build_heads,
    build_join_heads,
    build_latent_part,
    build_latent_store,
)
from slotmux.runtime.lowering.attention import AttentionShape, Rotation, attend, rope_table
from slotmux.runtime.lowering.buffers import Rows, Span, round_up
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.weights import Experts


@dataclass(frozen=True, slots=True)
class LatentShape:
    """One layer's latent attention: ``n_head`` heads of ``nope`` + ``rope`` query dimensions and
    ``v_dim`` of results, over cells of ``latent`` + ``rope``."""

    layer: int
    n_head: int
    nope: int
    rope: int
    v_dim: int
    latent: int
    scale: float
    rotation: Rotation | None
    eps: float

    @property
    def width(self) -> int:
        """Floats of a cell, and of a query's head."""
        return round_up(self.latent + self.rope, 16)


def store_latent(
    b: Builder,
    shape: LatentShape,
    kv: Rows,
    norm: NDArray[np.float32],
    q: Rows | None = None,
    query: Rows | None = None,
) -> None:
    """kv [n_tokens, latent + rope], before norm and rotation, into the layer's cells; the rotated
    part of q into the queries."""
    assert kv.width == shape.latent + shape.rope
    reads, cos, sin, n_pairs = [kv.span, Span("step")], 0, 0, 0
    if shape.rotation is not None:
        assert shape.rotation.neighbours
        _, span, cos, sin = rope_table(b, shape.rotation)
        n_pairs = len(shape.rotation.frequencies)
        reads.append(span)
    writes = [kv.span, Span(f"cells{shape.layer}")]
    if q is not None and query is not None:
        reads.append(q.span)
        writes.append(query.span)
    cell_type = b.cells.k_type
    b.append(
        f"latent_store.{cell_type}",
        lambda: build_latent_store(cell_type),
        STORE,
        {
            "q": q.address if q else 0,
            "q_stride": q.stride if q else 0,
            "n_head": shape.n_head if q else 0,
            "nope": shape.nope,
            "rope": shape.rope,
            "query": query.address if query else 0,
            "query_stride": query.stride if query else 0,
            "width": shape.width,
            "kv": kv.address,
            "kv_stride": kv.stride,
            "latent": shape.latent,
            "norm": norm,
            "eps": b.scalar(shape.eps),
            "scale": b.scalar(shape.scale),
            "n_pairs": n_pairs,
            "cos": cos,
            "sin": sin,
            "cells": b.cells.latent(shape.layer, kv.width, shape.width),
        },
        reads,
        writes,
    )


def latent_attention(
    b: Builder,
    shape: LatentShape,
    q: Rows,
    kv: Rows,
    norm: NDArray[np.float32],
    k_b: Experts,
    v_b: Experts,
    gate: Rows | None = None,
) -> Rows:
    """[n_tokens, n_head * v_dim] of q [n_tokens, n_head * (nope + rope)] and kv as for
    ``store_latent``. ``k_b``, ``v_b``: a matrix for each head, of nope inputs and of latent ones;
    ``gate``: rows [n_tokens, n_head] whose sigmoid scales a head."""
    nope = b.buffers.rows("latent_part", shape.n_head * shape.nope)
    b.append(
        "latent_part",
        build_latent_part,
        PART,
        {
            "q": q.address,
            "q_stride": q.stride,
            "n_head": shape.n_head,
            "nope": shape.nope,
            "rope": shape.rope,
            "scale": b.scalar(shape.scale),
            "out": nope.address,
            "out_stride": nope.stride,
        },
        [q.span],
        [nope.span],
    )
    query = b.buffers.rows("latent_query", shape.n_head * shape.width)
    times_heads(b, nope, k_b, query, shape.width)
    store_latent(b, shape, kv, norm, q, query)
    y = attend(b, _attention(shape), query, is_latent=True, name="latent_attention")
    padded = round_up(shape.v_dim, 16)
    parts = b.buffers.rows("latent_heads", shape.n_head * padded)
    times_heads(b, y, v_b, parts, padded)
    if padded == shape.v_dim and gate is None:
        return parts
    return _join(b, shape, parts, padded, gate)


def _attention(shape: LatentShape) -> AttentionShape:
    """What attention over the cells is: one KV head, whose first dimensions are its values."""
    return AttentionShape(
        shape.layer, shape.n_head, 1, shape.width, shape.latent, 1.0, None, shape.eps
    )


def times_heads(b: Builder, x: Rows, weight: Experts, out: Rows, out_width: int) -> None:
    """Every head's own matrix times its columns of x; ``out_width``: from a head's outputs to the
    next one's."""
    f, isa = weight.format, b.kernels.cpu.isa
    source, x_stride, read = b.activations(x, f)
    n_in = weight.n_in
    if f.is_quantised:
        x_head = tile_bytes(n_in)
    else:
        is_narrow = read.buffer.endswith(":bf16") or ":bf16[" in read.buffer
        x_head = n_in * (2 if is_narrow and isa is Isa.AVX512_BF16 else 4)
    b.append(
        f"heads.{f.name}",
        lambda: build_heads(isa, f.name),
        HEADS,
        {
            "w": weight.address,
            "head_bytes": weight.expert_bytes,
            "n_heads": weight.n_expert,
            "n_panels": weight.n_panels,
            "n_blocks": weight.n_blocks,
            "x": source,
            "x_stride": x_stride,
            "x_head": x_head,
            "tile_bytes": tile_bytes(x.width),
            "out": out.address,
            "out_stride": out.stride,
            "out_head": 4 * out_width,
        },
        [read],
        [out.span],
    )


def _join(b: Builder, shape: LatentShape, x: Rows, width: int, gate: Rows | None) -> Rows:
    """Heads of v_dim side by side, each times its gate."""
    out = b.buffers.rows("latent_out", shape.n_head * shape.v_dim)
    b.append(
        "join_heads",
        build_join_heads,
        JOIN,
        {
            "x": x.address,
            "x_stride": x.stride,
            "x_head": 4 * width,
            "n_head": shape.n_head,
            "n": shape.v_dim,
            "gate": gate.address if gate else 0,
            "gate_stride": gate.stride if gate else 0,
            "out": out.address,
            "out_stride": out.stride,
        },
        [x.span, *([gate.span] if gate else [])],
        [out.span],
    )
    return out
