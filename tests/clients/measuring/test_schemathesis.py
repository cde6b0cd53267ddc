"""schemathesis makes requests out of /openapi.json: no answer is a 5xx or other than described."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).parent / "schemathesis"
CHOICES = Path(__file__).parent / "schemathesis.toml"


def test_the_document_is_true(demo):
    command = [str(COMMAND), "--config-file", str(CHOICES), "run", f"{demo}/openapi.json"]
    command += ["--max-examples", "15", "--phases", "examples,fuzzing", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
