"""Which blocks of positions a layer's tokens attend to (kernels/ops/attention/index.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotmux.kernels.operands import Rows, Vector, round_up
from slotmux.kernels.ops.attention.choice import choice_bytes
from slotmux.kernels.ops.attention.choose import ChooseBlocks
from slotmux.kernels.ops.attention.index import IndexKeys, key_slots
from slotmux.runtime.lowering.attention import AttentionShape, Choice, Rotation, rotate_and_store
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class IndexShape:
    """One layer's index: ``n_head`` heads of queries of ``d`` and one key for ``ratio`` positions,
    the ``n_most`` best of which are attended to."""

    layer: int
    n_head: int
    d: int
    ratio: int
    n_most: int
    rotation: Rotation
    eps: float


def choose(
    b: Builder, shape: IndexShape, q: Rows, k: Rows, q_norm: Vector, k_norm: Vector
) -> Choice:
    """The blocks of every token by its queries q and by raw keys k; q is normed and rotated in
    place."""
    n_floats = key_slots(shape.ratio) * round_up(shape.d, 16)
    keys = b.cells.index(shape.layer, n_floats)
    b.append(
        IndexKeys(
            x=k,
            ratio=shape.ratio,
            weight=k_norm,
            eps=shape.eps,
            frequency=np.array(shape.rotation.frequencies, np.float64),
            magnitude=shape.rotation.magnitude,
            keys=keys,
        )
    )
    rotate_and_store(b, _queries(shape), q, None, None, q_norm)
    row_bytes = choice_bytes(b.n_ctx, shape.ratio)
    bits = b.buffers.table(f"chosen:{row_bytes}", b.buffers.n_rows * row_bytes, np.uint8)
    b.append(
        ChooseBlocks(
            q=q,
            keys=keys,
            n_head=shape.n_head,
            ratio=shape.ratio,
            n_most=shape.n_most,
            n_positions=b.n_ctx,
            row_bytes=row_bytes,
            chosen=bits,
        )
    )
    return Choice(bits, row_bytes, shape.ratio)


def _queries(shape: IndexShape) -> AttentionShape:
    """The index queries as those of attention whose cells are another's. Their scale would change
    no choice."""
    return AttentionShape(
        shape.layer,
        shape.n_head,
        1,
        shape.d,
        shape.d,
        1.0,
        shape.rotation,
        shape.eps,
        cells_of=shape.layer,
    )
