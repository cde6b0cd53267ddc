"""The same file, tokens and cells give the same logits to the bit on every CPU: this machine
against the table of tests/golden/bits.json, on its own path and on the others it can run.

A difference means that a sequence's bits depend on the machine, or that they have changed for all:
after a change that is meant to, ``python -m tests.bits --make`` makes the table anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slotmux.kernels.bits_version import BITS_VERSION
from slotmux.kernels.team import Team
from tests.bits.cases import Case, cases, table, version
from tests.kernels.conftest import team_of as team_of
from tests.kernels.conftest import usable_isas

CASES = list(cases())
# What ``make test`` computes on the other paths: one of each kind of weight and of layer.
FEW = ("llama/model f16", "llama/model-BF16 f16", "q-qwen35/model-Q4_K_M q8_0", "mamba2/model f16")
OTHERS = usable_isas()[1:]


def test_the_table_has_a_line_for_every_golden_file_and_weight_type() -> None:
    assert list(table()) == [case.name for case in CASES]


def test_the_version_of_the_bits_is_that_of_the_table() -> None:
    """What is kept on disk under one version is gone on from under no other."""
    assert version() == BITS_VERSION


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_this_machine(case: Case, kernel_cache_dir: Path, team_of: Callable[[str], Team]) -> None:
    assert case.bits("auto", kernel_cache_dir, team_of) == table()[case.name]


@pytest.mark.parametrize("isa", OTHERS)
@pytest.mark.parametrize("name", FEW)
def test_other_paths(
    name: str, isa: str, kernel_cache_dir: Path, team_of: Callable[[str], Team]
) -> None:
    (case,) = (case for case in CASES if case.name == name)
    assert case.bits(isa, kernel_cache_dir, team_of) == table()[name]


@pytest.mark.isa
@pytest.mark.parametrize("isa", OTHERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_path(
    case: Case, isa: str, kernel_cache_dir: Path, team_of: Callable[[str], Team]
) -> None:
    assert case.bits(isa, kernel_cache_dir, team_of) == table()[case.name]
