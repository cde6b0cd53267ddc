"""Peers that are measured by scripts of their own, as a plan tells.

PLAN.json: {"python": {PEER: interpreter}, "env": {NAME: value}, "models": [{"slotmux": FILE.gguf,
"peers": {PEER: {"script": FILE, "model": what it reads, "args": [...], "tests": "pp512,..."}}}]}.
Scripts are looked for beside the plan; $NAME in its strings comes from the environment. A script is
called as ``script MODEL --tests TEST --threads N --label PEER`` and prints a line of JSON for the
test: {"peer", "model", "test", "tokens_per_second"}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.cases import SpeedTest
from tests.bench.programs import ProgramError, json_lines, run


@dataclass(frozen=True, slots=True)
class Entry:
    """How a peer is asked about one file. ``tests``: which it can do; empty: all without depth."""

    script: Path
    model: str
    arguments: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


@dataclass(slots=True)
class ScriptPeer:
    """A program of the suite; ``entries``: by the name of the GGUF file."""

    name: str
    python: str
    env: dict[str, str]
    entries: dict[str, Entry] = field(default_factory=dict)

    def can(self, model: Path, test: SpeedTest) -> bool:
        """Whether the plan has it do this."""
        entry = self.entries.get(model.name)
        if entry is None or test.depth:
            return False
        return not entry.tests or str(test) in entry.tests

    def measure(self, model: Path, test: SpeedTest, n_threads: int) -> float:
        """Tokens a second. Raises ProgramError."""
        entry = self.entries[model.name]
        words = ("--tests", str(test), "--threads", str(n_threads), "--label", self.name)
        command = [self.python, str(entry.script), entry.model, *words, *entry.arguments]
        text = run(command, env=os.environ | self.env)
        for line in json_lines(text):
            if line.get("test") == str(test):
                return float(line["tokens_per_second"])
        raise ProgramError(f"{self.name} said nothing about {test}")


def read_plan(path: Path, only: Collection[str] = ()) -> list[ScriptPeer]:
    """The peers of a plan, or ``only`` those of these names. ValueError for a name that it has not,
    and for a plan that makes no sense."""
    plan = _expand(json.loads(path.read_text()))
    peers: dict[str, ScriptPeer] = {}
    try:
        for model in plan["models"]:
            for name, spec in model["peers"].items():
                if name not in peers:
                    python = plan.get("python", {}).get(name, sys.executable)
                    peers[name] = ScriptPeer(name, python, plan.get("env", {}))
                peers[name].entries[Path(model["slotmux"]).name] = Entry(
                    script=path.resolve().parent / spec["script"],
                    model=spec["model"],
                    arguments=tuple(spec.get("args", ())),
                    tests=tuple(filter(None, spec.get("tests", "").split(","))),
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no plan of peers: {error!r}") from error
    unknown = set(only) - set(peers)
    if unknown:
        raise ValueError(f"{path} has no {', '.join(sorted(unknown))}; it has {', '.join(peers)}")
    return [peer for name, peer in peers.items() if not only or name in only]


def _expand(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _expand(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_expand(value) for value in node]
    return os.path.expandvars(node) if isinstance(node, str) else node
