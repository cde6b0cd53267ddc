"""Numbers of the samplers in a slot's words ``edits`` and ``chain``: four bits each."""

from __future__ import annotations

PENALTIES, DRY, TOP_N_SIGMA, TOP_K, TYP_P, TOP_P, MIN_P, XTC = range(1, 9)
TEMPERATURE, DYNAMIC_TEMPERATURE, MIROSTAT_1, MIROSTAT_2 = range(9, 13)
BITS = 4
N_MAX = 15  # so many fit into a positive int64


def packed(codes: list[int]) -> int:
    """At most N_MAX codes in one word, the first in the lowest bits."""
    assert len(codes) <= N_MAX
    return sum(code << BITS * i for i, code in enumerate(codes))
