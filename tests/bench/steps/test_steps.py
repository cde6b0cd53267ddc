"""The programs that time parts of a step still time them."""

from __future__ import annotations

import re
import sys

import pytest

from tests.bench.steps import op_times
from tests.conftest import GOLDEN


def test_times_of_ops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--parallel", "1,2", "--prompt", "24", "--threads", "2"]
    monkeypatch.setattr(sys, "argv", ["op_times", str(GOLDEN / "llama/model.gguf"), *words])
    assert op_times.main() == 0
    printed = capsys.readouterr().out
    steps = re.findall(r"^(1 sequences|2 sequences|prompt of 24): ([0-9.]+) ms", printed, re.M)
    assert [name for name, _ in steps] == ["1 sequences", "2 sequences", "prompt of 24"]
    assert all(float(ms) > 0 for _, ms in steps)
    shares = [float(share) for share in re.findall(r"([0-9.]+) %", printed)]
    assert sum(shares) == pytest.approx(300, abs=5)
