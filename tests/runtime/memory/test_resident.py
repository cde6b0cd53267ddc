"""The budget of bytes in the system's own count: resident pages of a process that serves far more
than fits, on real pools of cells and states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20
SCRIPT = Path(__file__).with_name("resident_load.py")


@pytest.mark.parametrize(
    ("kind", "n_mib"),
    [("dear states", 64), ("dear states", 0), ("cheap states", 64), ("cells", 64)],
)
def test_resident_memory_stays_within_the_budget(kind: str, n_mib: int) -> None:
    run = subprocess.run(
        [sys.executable, SCRIPT, kind, str(n_mib * MIB)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    limit, *grown = map(int, run.stdout.split())
    assert len(grown) > 50
    assert max(grown) <= limit + 6 * MIB  # the interpreter's own: freed and not given back
    assert max(grown) >= 0.8 * limit, "the budget is not used"
