"""Attention of whole texts (kernels/ops/attention/both_ways.py), and what a step of texts tells its
ops beside the ubatch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import Address, Rows, Vector
from slotmux.kernels.ops.attention.both_ways import PART_TOKENS, BothWays
from slotmux.kernels.ops.attention.rope import Rope
from slotmux.kernels.ops.dense.add_rows import AddRows
from slotmux.runtime.lowering.attention import AttentionShape, rope_table
from slotmux.runtime.lowering.buffers import Buffers
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
    parts = buffers.table("texts:parts", 3 * n_parts, np.int32).array.reshape(n_parts, 3)
    return TextTables(
        buffers.table("texts:types", n_rows, np.int32).array,
        parts,
        buffers.table("texts:n_parts", 1, np.int64).array,
    )


def add_rows(b: Builder, x: Rows, table: Vector, ids: Address) -> None:
    """x += table[id]; ``ids``: a table of the step."""
    b.append(AddRows(x=x, table=table, ids=ids))


def attend_both_ways(
    b: Builder,
    shape: AttentionShape,
    q: Rows,
    k: Rows,
    v: Rows,
    q_norm: Vector | None = None,
    k_norm: Vector | None = None,
    slopes: Vector | None = None,
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
        BothWays(
            q=q,
            k=k,
            v=v,
            n_head=shape.n_head,
            n_head_kv=shape.n_head_kv,
            head_dim=shape.head_dim,
            v_dim=shape.v_dim,
            scale=shape.scale,
            window=shape.window,
            slopes=slopes,
            parts=Address(int(tables.parts.ctypes.data)),
            n_parts=Address(int(tables.n_parts.ctypes.data)),
            out=out,
        )
    )
    return out


def _rotate(b: Builder, shape: AttentionShape, x: Rows, n_head: int, norm: Vector | None) -> None:
    """Norm and rotate heads in place."""
    rotation = shape.rotation
    if rotation is None and norm is None:
        return
    cos, sin = (None, None) if rotation is None else rope_table(b, rotation)
    is_neighbours = rotation is not None and rotation.neighbours
    b.append(
        Rope(
            pairs="neighbours" if is_neighbours else "halves",
            q=x,
            k=x,
            v=x,
            n_head=n_head,
            n_head_kv=0,
            head_dim=shape.head_dim,
            v_dim=shape.v_dim,
            n_pairs=0 if rotation is None else len(rotation.frequencies),
            cos=cos,
            sin=sin,
            q_norm=norm,
            k_norm=None,
            eps=shape.eps,
            scale=1.0,
            cells=None,
        )
    )
