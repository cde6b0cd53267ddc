"""What a person sees while a model is loaded."""

from __future__ import annotations

import io
import re

from rich.console import Console

from slotmux.server.loading.progress import ProgressDisplay


def _shown(is_terminal: bool, *steps: tuple[str, float]) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=80)
    with ProgressDisplay(console) as progress:
        for stage, done in steps:
            progress(stage, done)
    return out.getvalue()


def test_without_a_terminal_a_stage_is_two_lines() -> None:
    text = _shown(False, ("load", 0.1), ("load", 0.6), ("load", 1.0), ("compile", 1.0))
    lines = [re.sub(r"[\d.]+ s", "N s", line) for line in text.splitlines()]
    assert lines == [
        "Loading weights ...",
        "Loading weights: done in N s",
        "Compiling kernels ...",
        "Compiling kernels: done in N s",
    ]


def test_ready_ends_what_is_unfinished() -> None:
    text = _shown(False, ("load", 0.4), ("ready", 1.0))
    assert text.splitlines()[-1].startswith("Loading weights: done in")
    assert "ready" not in text


def test_a_stage_that_ends_twice_is_told_once() -> None:
    text = _shown(False, ("load", 1.0), ("load", 1.0), ("ready", 1.0))
    assert text.count("done in") == 1


def test_a_terminal_gets_bars() -> None:
    text = _shown(True, ("load", 0.5), ("compile", 1.0))
    assert "50%" in text
    assert "100%" in text
    assert "done in" not in text
