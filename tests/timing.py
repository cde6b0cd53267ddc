"""Judging time: only where it was asked for (`make test-timing`), on a machine that is quiet.

Tests marked ``timing`` look at nothing else; those marked ``timed`` also judge how long it took.
"""

from __future__ import annotations

import os

JUDGES = os.environ.get("JUDGE_TIME") == "1"


def judge(is_soon_enough: bool, message: str = "it took too long") -> None:
    """Assert, where time is judged."""
    assert is_soon_enough or not JUDGES, message
