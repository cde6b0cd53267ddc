"""A session of an agent without anybody at the keyboard, in a folder and a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.serving import ROOT, Server

APART = ROOT / ".cache" / "clients" / "agents"
PROGRAMS = APART / "node_modules" / ".bin"
WORD = "heliotrope"
FILE = "word.txt"
SYSTEM = "When a tool has answered, tell the user what it said. Never call it twice."
WITHIN_S = 1200
# Whatever else an agent asks the network for.
QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "QWEN_CODE_SUPPRESS_YOLO_WARNING": "1",
}


@dataclass(frozen=True)
class Session:
    """Where an agent runs, and whom it talks to."""

    server: Server
    folder: Path
    home: Path

    def run(self, *command: str, **variables: str) -> list[dict[str, Any]]:
        """The events that a program of npm's prints, one JSON a line. It ends well, and nothing
        that it sent was refused."""
        if not (PROGRAMS / command[0]).exists():
            pytest.skip(f"{command[0]} was not installed by `make test-clients`")
        return self.start(str(PROGRAMS / command[0]), *command[1:], **variables)

    def start(self, *command: str, **variables: str) -> list[dict[str, Any]]:
        """The same of any program."""
        n_before = len(self.server.requests())
        paths = f"{PROGRAMS}:{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=WITHIN_S, env={"PATH": paths, "HOME": str(self.home)} | QUIET | variables,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        requests = self.server.requests()[n_before:]
        assert len(requests) >= 2, "a call, and what it gave"
        assert [told for told in requests if told["status"] != 200 or "error" in told] == []
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
