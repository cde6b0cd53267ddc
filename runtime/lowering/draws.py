"""The last op of a program: drawing tokens from the logits it has computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.ops.sampling.draw import SAMPLE, build_sample_rows
from slotmux.runtime.lowering.buffers import Rows, Span
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.ops import RawOp
from slotmux.runtime.sampling.table import SamplingTable


def append_draws(
    b: Builder,
    table: SamplingTable,
    rows: Rows,
    logits: NDArray[np.float32],
    *,
    masks: NDArray[np.int64] | None = None,
    is_draft: bool = False,
) -> RawOp:
    """Draw what the step's sample tables ask for. ``logits``: the memory of ``rows``; ``masks`` as
    SamplingTable.operands takes it."""
    operands = table.operands(logits, b.n_threads, masks, is_draft=is_draft)
    return b.append_raw(
        "sample",
        build_sample_rows,
        SAMPLE,
        {name: int(value) for name, value in zip(SAMPLE._fields, operands, strict=True)},
        [rows.span],
        [Span("draws")],
    )
