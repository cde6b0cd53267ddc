"""mypy refuses a lowering that gives an op what it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api")
ROOT = Path(__file__).resolve().parents[3]
SOURCE = """
import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.formats.panels import Panels
from slotmux.kernels.operands import Count, Rows, Table, Tiles
from slotmux.kernels.ops.attention.plan import AttentionPlan
from slotmux.kernels.ops.dense.linear import Linear
from slotmux.kernels.ops.dense.norm import RmsNorm


Doubles = NDArray[np.float64]


def lower(w: Panels, x: Rows, t: Tiles, n: Count, v: Doubles, i: Table[np.int32]) -> None:
    Linear(w=w, x=x, out=x)
    Linear(w=w, x=t, out=x, add=True)
    Linear(w=w, x=x)  # Missing named argument "out"
    Linear(w=w, x=x, out=x, n_panels=4)  # Unexpected keyword argument "n_panels"
    Linear(w=w, x=x, out=t)  # Argument "out" to "Linear" has incompatible type
    Linear(w=x, x=x, out=x)  # Argument "w" to "Linear" has incompatible type
    Linear(w=w, x=x.address, out=x)  # Argument "x" to "Linear" has incompatible type
    RmsNorm(x=x, n_rows=n, weight=None, eps=1e-5, out=x)
    RmsNorm(x=x, n_rows=3, weight=None, eps=1e-5, out=x)  # Argument "n_rows" to "RmsNorm"
    RmsNorm(x=x, n_rows=n, weight=v, eps=1e-5, out=x)  # Argument "weight" to "RmsNorm"
    RmsNorm(x=x, n_rows=n, weight=None, eps=None, out=x)  # Argument "eps" to "RmsNorm"
    RmsNorm(x=x, n_rows=n, weight=None, eps=1e-5, out=x, tiles=t)  # Unexpected keyword argument
    AttentionPlan(
        counts=i,  # Argument "counts" to "AttentionPlan" has incompatible type
        split_base=i,  # Argument "split_base" to "AttentionPlan" has incompatible type
        split_capacity=1,
        group=1,
        n_head_kv=1,
        window=0,
    )
    Linear(w=w, x=x, out=x).n_blocks.bit_length()
    Linear(w=w, x=x, out=x).n_rows.nothing  # "Count" has no attribute "nothing"
"""


def test_operands_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "lowering_of_a_test.py"
    path.write_text(SOURCE)
    config = [
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(ROOT / ".mypy_cache"),
    ]
    told, problems, _ = api.run([*config, str(path)])
    assert not problems
    found = {}
    for line in told.splitlines():
        if line.count(": error: "):
            place, text = line.split(": error: ", 1)
            found.setdefault(int(place.split(":")[1]), text)
    lines = SOURCE.splitlines()
    wanted = {i + 1: line.split("  # ")[1] for i, line in enumerate(lines) if "  # " in line}
    assert found.keys() == wanted.keys(), told
    for i, text in wanted.items():
        assert text in found[i]
