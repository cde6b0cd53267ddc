"""Embeddings of a token's n-grams (kernels/ops/recurrent/ngram.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.formats.panels import FileRows
from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.dense.lookup import LookupIds
from slotmux.kernels.ops.recurrent.ngram import NgramIds
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class NgramShape:
    """How n-grams of 2 to as many tokens as there are multipliers give rows of a table: see
    NgramIds."""

    multipliers: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    per_order: int
    eos: int


def ngram_embeddings(b: Builder, shape: NgramShape, table: FileRows) -> Rows:
    """[n_tokens, heads * width of a row of the table]"""
    n = shape.sizes.size
    assert n == (shape.multipliers.size - 1) * shape.per_order
    ids = b.buffers.table("ngram_ids", b.buffers.n_rows * n, np.int32)
    b.append(
        NgramIds(
            tokens=b.step_address("tokens"),
            multipliers=shape.multipliers,
            sizes=shape.sizes,
            starts=shape.starts,
            per_order=shape.per_order,
            eos=shape.eos,
            ids=ids,
        )
    )
    out = b.buffers.rows("ngrams", n * table.n_in)
    b.append(LookupIds(source=table, ids=ids, n_ids=n, out=out))
    return out
