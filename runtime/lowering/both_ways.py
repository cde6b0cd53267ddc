"""Attention of whole texts (kernels/ops/attention/both_ways.py), and what a step of texts tells its
ops beside the ubatch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.attention.both_ways import (
    BOTH_WAYS,
    PART_TOKENS,
    build_both_ways,
    scratch_bytes,
)
from slotmux.kernels.ops.attention.rope import ROPE, build_rope
from slotmux.kernels.ops.dense.add_rows import ADD_ROWS, build_add_rows
from slotmux.runtime.lowering.attention import AttentionShape, _rope_table
from slotmux.runtime.lowering.buffers import Buffers, Rows, Span
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.ubatch import I32


@dataclass(frozen=True, slots=True)
class TextTables:
    """``types``: of each token, which of the parts of a text it is in (0: the first, or only);
    ``parts``, ``n_parts``: pieces of texts, see BOTH_WAYS."""

    types: I32
    parts: I32
    n_parts: NDArray[np.int64]

    def fill(self, sizes: NDArray[np.int64]) -> None:
        """The pieces of texts that stand in the ubatch one behind the other."""
        n_pieces = -(-sizes // PART_TOKENS)
        n = int(n_pieces.sum())
        text = np.repeat(np.arange(len(sizes)), n_pieces)
        before = np.cumsum(n_pieces) - n_pieces
        self.parts[:n, 0] = (np.cumsum(sizes) - sizes)[text]
        self.parts[:n, 1] = sizes[text]
        self.parts[:n, 2] = (np.arange(n) - before[text]) * PART_TOKENS
        self.n_parts[0] = n


def text_tables(buffers: Buffers, n_texts: int) -> TextTables:
    """The tables of a program for up to ``n_texts`` texts a step: always the same ones."""
    n_rows = buffers.n_rows
    n_parts = n_rows // PART_TOKENS + n_texts
    return TextTables(
        buffers.words("texts:types", -(-n_rows // 2), np.int32).view(np.int32),
        buffers.words("texts:parts", 2 * n_parts, np.int32).view(np.int32)[: 3 * n_parts]
        .reshape(n_parts, 3),
        buffers.words("texts:n_parts", 1),
    )  # fmt: skip


def add_rows(b: Builder, x: Rows, table: NDArray[np.float32], ids: int) -> None:
    """x += table[id]; ``ids``: address of a table of the step."""
    b.append(
        "add_rows",
        build_add_rows,
        ADD_ROWS,
        {"x": x.address, "stride": x.stride, "n": x.width, "table": table, "ids": ids},
        [x.span, Span("step")],
        [x.span],
    )


def attend_both_ways(
    b: Builder,
    shape: AttentionShape,
    q: Rows,
    k: Rows,
    v: Rows,
    q_norm: NDArray[np.float32] | None = None,
    k_norm: NDArray[np.float32] | None = None,
    slopes: NDArray[np.float32] | None = None,
) -> Rows:
    """Attention of each token over its whole text: [n_tokens, n_head * v_dim]. ``window`` of the
    shape: how far a token sees to either side (0: everywhere); ``slopes``: ALiBi's, of each head.
    """
    assert shape.n_head % shape.n_head_kv == 0
    _rotate(b, shape, q, shape.n_head, q_norm)
    _rotate(b, shape, k, shape.n_head_kv, k_norm)
    out = b.buffers.rows("attention", shape.n_head * shape.v_dim)
    tables = text_tables(b.buffers, b.n_slots)
    b.append(
        "both_ways",
        build_both_ways,
        BOTH_WAYS,
        {
            "q": q.address,
            "q_stride": q.stride,
            "k": k.address,
            "k_stride": k.stride,
            "v": v.address,
            "v_stride": v.stride,
            "n_head": shape.n_head,
            "n_head_kv": shape.n_head_kv,
            "head_dim": shape.head_dim,
            "v_dim": shape.v_dim,
            "scale": b.scalar(shape.scale),
            "window": shape.window,
            "slopes": 0 if slopes is None else slopes,
            "parts": int(tables.parts.ctypes.data),
            "n_parts": int(tables.n_parts.ctypes.data),
            "out": out.address,
            "out_stride": out.stride,
        },
        [q.span, k.span, v.span, Span("step")],
        [out.span],
        scratch_bytes(shape.n_head, shape.n_head_kv, shape.head_dim, shape.v_dim),
    )
    return out


def _rotate(
    b: Builder, shape: AttentionShape, x: Rows, n_head: int, norm: NDArray[np.float32] | None
) -> None:
    """Norm and rotate heads in place."""
    if shape.rotation is None and norm is None:
        return
    reads = [x.span, Span("step")]
    cos = sin = n_pairs = 0
    neighbours = False
    if shape.rotation is not None:
        _, span, cos, sin = _rope_table(b, shape.rotation)
        reads.append(span)
        n_pairs, neighbours = len(shape.rotation.frequencies), shape.rotation.neighbours
    b.append(
        f"rope.{'neighbours' if neighbours else 'halves'}.f16.f16",
        lambda: build_rope(neighbours, "f16", "f16"),
        ROPE,
        {
            "q": x.address,
            "k": 0,
            "v": 0,
            "stride": x.stride,
            "n_head": n_head,
            "n_head_kv": 0,
            "head_dim": shape.head_dim,
            "v_dim": shape.v_dim,
            "n_pairs": n_pairs,
            "cos": cos,
            "sin": sin,
            "q_norm": 0 if norm is None else norm,
            "k_norm": 0,
            "eps": b.scalar(shape.eps),
            "scale": b.scalar(1.0),
            "k_cells": 0,
            "v_cells": 0,
        },
        reads,
        [x.span],
    )
