"""Teams for kernel tests: compiled kernels come from the cache that all tests share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slotmux.kernels.cpu import Isa, detect_cpu
from slotmux.kernels.team import Team, make_team


def source_digest(path: str) -> str:
    """For the names of kernels that a test file defines: the cache's own key leaves tests out."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def usable_isas() -> list[str]:
    """The paths that this CPU can run; the portable one always."""
    usable = []
    for isa in Isa:
        try:
            detect_cpu(isa)
        except ValueError:
            continue
        usable.append(str(isa))
    return usable


@pytest.fixture(scope="session")
def team_of(kernel_cache_dir: Path) -> Iterator[Callable[..., Team]]:
    """team_of(isa="auto", n_threads=1): a team, one for each pair in a session."""
    teams: dict[tuple[str, int], Team] = {}

    def get(isa: str = "auto", n_threads: int = 1) -> Team:
        if (isa, n_threads) not in teams:
            teams[isa, n_threads] = make_team(isa, n_threads, kernel_cache_dir)
        return teams[isa, n_threads]

    yield get
    for team in teams.values():
        team.close()
