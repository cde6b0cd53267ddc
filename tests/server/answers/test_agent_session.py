"""A session of a coding agent over HTTP, on a real hybrid model: each call computes what is new in
it and at most 64 tokens more, and answers what it would answer without the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gguf import GGUFReader

from slotmux.server.loading.assemble import assemble
from slotmux.server.settings import load_settings
from tests.conftest import ROOT
from tests.server.answers.agent_session import N_CALLS, calls
from tests.server.fake_model import RunningServer, running
from tests.server.templates.chat_templates import QWEN3

N_CTX = 24_576
SLACK = 64
LONGEST_PROMPT = 18_000


@pytest.fixture(scope="module")
def long_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model (hybrid, with a real tokenizer), said to have been trained for more."""
    path = tmp_path_factory.mktemp("demo") / "demo.gguf"
    path.write_bytes((ROOT / "server" / "assets" / "demo.gguf").read_bytes())
    reader = GGUFReader(path, "r+")
    field = reader.get_field("qwen35.context_length")
    assert field is not None
    field.parts[field.data[0]][0] = N_CTX
    reader.data.flush()
    return path


@pytest.fixture(scope="module")
def served(long_demo: Path, kernel_cache_dir: Path) -> Iterator[RunningServer]:
    template = long_demo.parent / "template.jinja"
    template.write_text(QWEN3)
    settings = load_settings(
        model=str(long_demo), ctx_size=N_CTX, kv_size=N_CTX, parallel=2, threads=2,
        chat_template_file=template, prefix_cache_bytes=96 * 2**20, spec_type="none",
        cache_dir=kernel_cache_dir.parent, request_timeout=3600.0, first_token_timeout=3600.0,
    )  # fmt: skip
    with running(assemble(settings)) as server:
        yield server


def forget(server: RunningServer) -> None:
    """Drop everything that is kept."""
    server.engine.errand(lambda core: core.memory.drop_cache()).result(60)


def play(
    server: RunningServer, bodies: list[dict[str, Any]]
) -> tuple[list[tuple[int, int]], list[Any]]:
    """(prompt tokens, tokens computed) of each call, and the answers."""
    rows, answers = [], []
    with httpx.Client(base_url=server.url, timeout=600) as client:
        for body in bodies:
            answer = client.post("/v1/messages", json=body)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            usage = told["usage"]
            n_cached = usage.get("cache_read_input_tokens") or 0
            rows.append((usage["input_tokens"] + n_cached, usage["input_tokens"]))
            answers.append(told["content"])
    return rows, answers


@pytest.mark.parametrize("system_changes", [False, True], ids=["same system", "cch changes"])
def test_a_call_computes_what_is_new(served: RunningServer, system_changes: bool) -> None:
    forget(served)
    bodies = calls(system_changes)
    rows, answers = play(served, bodies)
    assert len(rows) == N_CALLS
    assert rows[-1][0] > LONGEST_PROMPT
    before = 0
    for number, (n_prompt, n_computed) in enumerate(rows):
        n_new = n_prompt - before
        assert n_computed <= n_new + SLACK, f"call {number} computed {n_computed} of {n_prompt}"
        before = n_prompt
    for number in (2, 10):
        forget(served)
        rows, cold = play(served, [bodies[number]])
        assert rows[0][0] == rows[0][1]
        assert cold == [answers[number]]
