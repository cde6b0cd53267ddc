"""What a text's vector is made of."""

from __future__ import annotations

from enum import IntEnum

from slotmux.runtime.gguf import GGUFFile


class Pooling(IntEnum):
    """What a text's vector is; the numbers are those of ``pooling_type`` in files."""

    NONE = 0  # its tokens' rows, each
    MEAN = 1
    CLS = 2  # the first token's row
    LAST = 3
    RANK = 4  # a score, by the model's own head


def stored_pooling(file: GGUFFile, default: Pooling = Pooling.MEAN) -> Pooling:
    """What the file says."""
    key = f"{file.architecture}.pooling_type"
    return Pooling(file.metadata.get_u32(key, int(default), 0, int(Pooling.RANK)))
