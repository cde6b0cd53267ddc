"""A server for agents, and a place for each to work in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.agents.session import FILE, WORD, Session
from tests.clients.serving import Server, running


@pytest.fixture(scope="session")
def busy(coder_path: Path) -> Iterator[Server]:
    """Greedy where an agent does not say, so that a session is much the same each time."""
    with running(str(coder_path), "--alias", "coder", "--temp", "0") as server:
        yield server


@pytest.fixture
def session(busy: Server, tmp_path: Path) -> Session:
    """A folder with a file that has a word in it, and an empty home."""
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "work" / FILE).write_text(f"The word is {WORD}.\n")
    return Session(busy, tmp_path / "work", tmp_path / "home")
