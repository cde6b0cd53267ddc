"""The program that times a step's Python keeps every slot busy."""

from __future__ import annotations

import pytest

from tests.bench.steps.python_times import measure


@pytest.mark.parametrize("has_rows", [False, True])
def test_both_parts_take_time(has_rows: bool) -> None:
    between, beside = measure(3, 5, has_rows=has_rows)
    assert between > 0
    assert beside > 0
