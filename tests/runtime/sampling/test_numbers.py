"""Every number that a request may say comes to the words that kernels read, or is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slotmux.runtime.engine.request import InvalidRequestError
from slotmux.runtime.sampling.params import NUMBERS, SamplingParams
from slotmux.runtime.sampling.table import SamplingTable
from tests.numbers import inside

N_VOCAB, N_CTX = 50, 64
ADDRESSES = {
    "history", "bias_ids", "biases", "banned_ids", "bad_starts", "bad_tokens", "dry_breakers",
    "dry_singles", "dry_starts", "dry_tokens", "surprises", "allowed",
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> SamplingTable:
    return SamplingTable(1, N_VOCAB, N_CTX)


def words(table: SamplingTable, params: SamplingParams) -> dict[str, Any]:
    table.set(0, params, np.zeros(N_CTX, np.int32), frozenset(), 0)
    row = table.rows[0]
    return {name: row[name].item() for name in row.dtype.names if name not in ADDRESSES}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_changes_the_words(table, name):
    plain = words(table, SamplingParams())
    assert words(table, SamplingParams()) == plain
    assert words(table, replace(SamplingParams(), **{name: inside(name)})) != plain


@pytest.mark.parametrize("name", NUMBERS)
def test_what_no_draw_can_do_with_is_refused_by_name(table, name):
    low, high = NUMBERS[name].can_draw
    bad = [end + step for end, step in ((low, -1), (high, 1)) if math.isfinite(end)]
    for value in (*bad, math.nan):
        with pytest.raises(InvalidRequestError) as refused:
            table.check(replace(SamplingParams(), **{name: value}))
        assert refused.value.field == name


@pytest.mark.parametrize("name", NUMBERS)
def test_whatever_may_be_asked_for_can_be_drawn(table, name):
    told = NUMBERS[name].told
    for value in (max(told.low, NUMBERS[name].can_draw[0]), told.high):
        table.check(replace(SamplingParams(), **{name: value}))
