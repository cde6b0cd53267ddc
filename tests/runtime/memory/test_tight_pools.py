"""Pools of hardly any blocks: whatever lengths prompts have, nothing runs into an assertion.

Every length at a border of blocks, with every prefix of what was there before, alone and beside a
running sequence: the places where the last block to be had is the one that is copied.
"""

from __future__ import annotations

from itertools import product

import pytest

from slotmux.runtime.ubatch import BLOCK_CELLS
from tests.runtime.memory.test_memory import Desk, tokens_of


def borders(n_blocks: int) -> list[int]:
    """Lengths at both sides of every border of blocks that fit with one token to generate."""
    near = {k * BLOCK_CELLS + d for k in range(n_blocks + 1) for d in (-1, 0, 1)}
    return [n for n in sorted(near) if 0 < n < n_blocks * BLOCK_CELLS]


def grow(desk: Desk, slot: int, tokens: list[int]) -> bool:
    """Open and compute a prompt; False when admission, which may, says that there is no room."""
    seq, n_reused = desk.open(slot, tokens)
    desk.memory.check_integrity()
    if n_reused is None:
        return False
    assert n_reused < len(tokens)
    assert desk.read(seq) == tokens[:n_reused]
    assert desk.compute(seq, tokens[n_reused:]), "what was admitted has no room"
    assert desk.read(seq) == tokens
    return True


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
@pytest.mark.parametrize("n_rows", [0, 1, 3])
def test_alone_every_prompt_that_fits_the_context_is_computed(n_blocks, n_rows):
    lengths = borders(n_blocks)
    a, b = tokens_of(64), tokens_of(64, 1)
    for n_first, n_common, n_second in product(lengths, lengths, lengths):
        if n_common > min(n_first, n_second):
            continue
        desk = Desk(n_blocks, n_rows, n_slots=1, n_ctx=n_blocks * BLOCK_CELLS)
        assert grow(desk, 0, a[:n_first])
        desk.memory.sequences[0].release()
        assert grow(desk, 0, a[:n_common] + b[: n_second - n_common])


@pytest.mark.parametrize("n_rows", [0, 2, 4])
def test_beside_another_what_is_admitted_is_computed(n_rows):
    n_blocks = 4
    lengths = borders(n_blocks)
    a, b, other = tokens_of(64), tokens_of(64, 1), tokens_of(64, 2)
    outcomes = set()
    for n_first, n_common, n_second in product(lengths, lengths, lengths):
        if n_common > min(n_first, n_second):
            continue
        for n_other in (1, BLOCK_CELLS, BLOCK_CELLS + 1):
            desk = Desk(n_blocks, n_rows, n_slots=2, n_ctx=n_blocks * BLOCK_CELLS)
            assert grow(desk, 0, a[:n_first])
            desk.memory.sequences[0].release()
            assert grow(desk, 1, other[:n_other])
            outcomes.add(grow(desk, 0, a[:n_common] + b[: n_second - n_common]))
    assert outcomes == {True, False}
