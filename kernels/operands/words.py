"""Names for the int64 words through which ops and steps describe their operands."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np


def words(name: str, fields: str) -> Any:
    """A tuple of byte offsets, one a field: ``load_i64(op + OP.n_tokens)``."""
    names = fields.split()
    return namedtuple(name, names)(*(8 * i for i in range(len(names))))  # type: ignore[misc]


def fill(layout: Any, **values: int | np.ndarray) -> np.ndarray:
    """An int64 array with every field of a layout; arrays are given by their address."""
    missing = set(layout._fields) ^ set(values)
    if missing:
        raise ValueError(f"operands that do not fit the layout: {sorted(missing)}")
    out = np.zeros(len(layout._fields), np.int64)
    for field, value in values.items():
        is_array = isinstance(value, np.ndarray)
        out[getattr(layout, field) // 8] = value.ctypes.data if is_array else value
    return out


# What a step tells every op: sizes, and addresses of the tables of runtime's Ubatch.
STEP = words(
    "Step",
    "n_tokens n_seqs n_outputs n_samples tokens positions seq_start seq_slot block_tables "
    "max_blocks state_row state_fresh state_pending seq_drafts out_tokens sample_output "
    "sample_slot sample_pos sampled logprob top_ids top_logprobs",
)
