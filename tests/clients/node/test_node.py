"""Clients from npm, where there is node: OpenAI's package and the Vercel AI SDK."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.page import snippet
from tests.clients.serving import ROOT

MODULES = ROOT / ".cache" / "clients"
PROGRAM = Path(__file__).parent / "node_clients.mjs"


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not there")
    if not (MODULES / "node_modules" / "ai").is_dir():
        pytest.skip("npm was not there when `make test-clients` installed the clients")


def test_the_program_ends_well(small):
    done = _node(str(PROGRAM), small, str(MODULES))
    assert done.count("ok ") == 9


def test_the_snippet_of_the_page(small):
    text = snippet("Vercel AI SDK", small)
    assert re.search(r"\w", _node("--input-type=module", "--eval", text))


def _node(*words: str) -> str:
    done = subprocess.run(
        ["node", *words], capture_output=True, text=True, timeout=900, cwd=MODULES
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
