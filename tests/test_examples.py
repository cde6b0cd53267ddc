"""Every example runs against a real server, and what it prints is what its text promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import serving_model

EXAMPLES = ROOT / "examples"
# What each prints on a tiny model with random weights, which says nothing sensible.
PRINTS = {
    "stream.py": r"\(\d+ tokens\)",
    "many_at_once.py": r"16 of 16 answers are the same, bit for bit",
    "sure.py": r"\d+%   else .+%",
    "long_chat.py": r"prompt tokens, [1-9]\d* of them from the cache",
}


@pytest.fixture(scope="module")
def server(golden_dir: Path, kernel_cache_dir: Path) -> Iterator[RunningServer]:
    path = golden_dir / "qwen35" / "model.gguf"
    with serving_model(path, kernel_cache_dir, n_cells=4096, n_ctx=1024) as server:
        yield server


def output(server: RunningServer, *command: str) -> str:
    """What a command prints; it must end well."""
    environment = os.environ | {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "any"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PRINTS)
def test_example(server: RunningServer, name: str) -> None:
    assert re.search(PRINTS[name], output(server, sys.executable, str(EXAMPLES / name)))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl(server: RunningServer) -> None:
    assert '"finish_reason"' in output(server, str(EXAMPLES / "chat.sh"))


def test_every_example_is_listed_and_tested() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
    assert files == {*PRINTS, "chat.sh", "connect.py"}
    listed = set(re.findall(r"^\| `([\w.]+)`", (EXAMPLES / "README.md").read_text(), re.M))
    assert listed == {*PRINTS, "chat.sh"}
