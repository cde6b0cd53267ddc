"""The Python snippets of docs/clients.md run as they stand there; the others by their own tests."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.clients.page import SNIPPETS, snippet

PYTHON = [title for title, (language, _) in SNIPPETS.items() if language == "python"]
ELSEWHERE = {  # each is used by the test of its client
    "Vercel AI SDK", "lm-eval", "guidellm", "Claude Code", "Codex", "opencode", "Qwen Code",
}  # fmt: skip


@pytest.mark.parametrize("title", PYTHON)
def test_it_prints_an_answer(small, title):
    command = [sys.executable, "-c", snippet(title, small)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.search(r"\w", done.stdout)


def test_none_is_left_out():
    assert set(SNIPPETS) == {*PYTHON, *ELSEWHERE}
