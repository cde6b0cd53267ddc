"""One vector of each text of a step, from its tokens' rows (kernels/ops/dense/pool.py)."""

from __future__ import annotations

from enum import IntEnum

from slotmux.kernels.ops.dense.pool import FIRST, LAST, MEAN, POOL, build_pool
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowering.buffers import Rows, Span
from slotmux.runtime.lowering.builder import Builder


class Pooling(IntEnum):
    """What a text's vector is; the numbers are those of ``pooling_type`` in files."""

    NONE = 0  # its tokens' rows, each
    MEAN = 1
    CLS = 2  # the first token's row
    LAST = 3
    RANK = 4  # a score, by the model's own head


def stored_pooling(file: GGUFFile) -> Pooling:
    """What the file says; of one that does not, the mean."""
    key = f"{file.architecture}.pooling_type"
    return Pooling(file.metadata.get_u32(key, int(Pooling.MEAN), 0, int(Pooling.RANK)))


_KINDS = {Pooling.MEAN: MEAN, Pooling.CLS: FIRST, Pooling.LAST: LAST}


def pool(b: Builder, x: Rows, pooling: Pooling, n_texts: int) -> Rows:
    """Rows [n_texts, x.width]: a vector of each sequence of the step."""
    out = b.buffers.rows("pooled", x.width, n_texts)
    b.append(
        "pool",
        build_pool,
        POOL,
        {
            "x": x.floats().address,
            "stride": x.stride,
            "n": x.width,
            "kind": _KINDS[pooling],
            "out": out.address,
            "out_stride": out.stride,
        },
        [x.span, Span("step")],
        [out.span],
    )
    return out
