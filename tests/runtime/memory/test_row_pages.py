"""Rows of states whose memory comes ahead of its use and goes again."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.lowering.pages import HUGE_PAGE, PAGE, Pages
from slotmux.runtime.lowering.rows import StateRows
from slotmux.runtime.memory.segments import Segments
from tests.runtime.memory.resident_load import resident
from tests.runtime.memory.test_memory import Desk, tokens_of

MIB = 2**20


def rows_of(n_floats: int, n_more: int = 30) -> StateRows:
    rows = StateRows(2, 0, n_more, is_elastic=True)
    rows.reserve(n_floats, 0)
    rows.make()
    return rows


@pytest.mark.parametrize(
    ("n_bytes", "row_bytes"),
    [
        (20_201_472, 10 * HUGE_PAGE),  # Qwen3.5 0.8B: fills ten huge pages but for 4 %
        (2 * HUGE_PAGE, 2 * HUGE_PAGE),
        (2 * HUGE_PAGE + 64, 2 * HUGE_PAGE + PAGE),  # a third would be empty
        (19_000, 5 * PAGE),
    ],
)
def test_rows_fill_the_pages_they_have(n_bytes: int, row_bytes: int) -> None:
    rows = rows_of(n_bytes // 4, 0)
    assert rows.row_bytes == row_bytes
    assert rows._array.ctypes.data % (HUGE_PAGE if row_bytes % HUGE_PAGE == 0 else PAGE) == 0


@pytest.mark.parametrize("n_floats", [5 * HUGE_PAGE // 4, 5 * MIB // 4 + 100])
def test_a_prepared_row_takes_its_memory_before_it_is_written(n_floats: int) -> None:
    rows = rows_of(n_floats)
    n_before = resident()
    for row in range(2, 12):
        rows.prepare_row(row)
    if not all(preparing.result() for preparing in rows._preparing.values()):
        pytest.skip("this Linux cannot populate pages")
    assert resident() - n_before >= 0.9 * 10 * rows.row_bytes
    rows._array[0] = 3.0
    rows.copy_row(0, 7)
    assert (rows._array[7] == 3.0).all()
    assert not rows._array[6].any()


def test_a_row_that_goes_while_it_is_prepared_takes_nothing() -> None:
    rows = rows_of(5 * HUGE_PAGE // 4)
    n_before = resident()
    for row in range(2, 22):
        rows.prepare_row(row)
    for row in range(2, 22):
        rows.give_back_row(row)
    assert not rows._preparing
    assert resident() - n_before < 2 * rows.row_bytes


def test_preparing_leaves_what_is_written_meanwhile() -> None:
    pages = Pages(20 * HUGE_PAGE, HUGE_PAGE)
    pages.array[: 20 * HUGE_PAGE] = 9
    pages.populate(0, 20 * HUGE_PAGE)
    assert (pages.array[: 20 * HUGE_PAGE] == 9).all()
    pages.give_back(HUGE_PAGE, 2 * HUGE_PAGE)
    assert not pages.array[HUGE_PAGE : 2 * HUGE_PAGE].any()
    assert np.count_nonzero(pages.array[: 20 * HUGE_PAGE] == 9) == 19 * HUGE_PAGE


def test_what_is_brought_ahead_is_taken_last() -> None:
    segments = Segments(6, 2)
    ahead = [*segments.bring(is_ahead=True), *segments.bring(is_ahead=True)]
    assert [segments.take() for _ in range(4)] == [0, 1, *ahead]


def test_every_slot_has_a_row_ahead_while_there_is_room() -> None:
    desk = Desk(n_blocks=64, n_rows=20, n_slots=3, cache_bytes=12 * 8192 * 2)
    desk.memory.pools.rows._poison = False
    for slot in range(3):
        seq, _ = desk.open(slot, prompt := tokens_of(48, slot))
        desk.compute(seq, prompt)
        assert seq.checkpoint()
        assert desk.memory.pools.rows.n_free == 3
    assert desk.model.rows.n_prepared >= 3
