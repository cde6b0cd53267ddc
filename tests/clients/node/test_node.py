"""Clients from npm, where there is node: OpenAI's package and the Vercel AI SDK."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.serving import ROOT

MODULES = ROOT / ".cache" / "clients"
PROGRAM = Path(__file__).parent / "node_clients.mjs"


def test_the_program_ends_well(request):
    if shutil.which("node") is None:
        pytest.skip("node is not there")
    if not (MODULES / "node_modules" / "ai").is_dir():
        pytest.skip("npm was not there when `make test-clients` installed the clients")
    command = ["node", str(PROGRAM), request.getfixturevalue("small"), str(MODULES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 9
