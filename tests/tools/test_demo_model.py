"""The model that comes with the package: found offline, small, speaks, and repeats codewords while
others are answered beside it."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.server.files.default_model import demo_model
from slotmux.server.files.hub import resolve_model
from tests.conftest import ROOT
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import serving_model
from tools.demo import recall
from tools.demo.vocab import CHAT_TEMPLATE
from tools.recall_demo import measure

N_CELLS = 4096


@pytest.fixture(scope="module")
def server(kernel_cache_dir: Path) -> Iterator[RunningServer]:
    with serving_model(demo_model(), kernel_cache_dir, n_cells=N_CELLS, n_ctx=1024) as running:
        yield running


def say(server: RunningServer, *contents: str) -> str:
    """The greedy answer; contents are the user's and the assistant's by turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    body = {"messages": messages, "temperature": 0, "max_tokens": 80}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
    return str(reply["choices"][0]["message"]["content"])


def test_the_name_demo_needs_no_network_and_no_folder(tmp_path: Path) -> None:
    path = resolve_model("demo", models_dir=tmp_path)
    assert path.is_file()
    assert path.stat().st_size <= 16_000_000
    assert not list(tmp_path.iterdir())


def test_a_wheel_holds_the_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["slotmux"]
    packed = {path for pattern in patterns for path in (ROOT / "src" / "slotmux").glob(pattern)}
    assert demo_model().resolve() in {path.resolve() for path in packed}


def test_it_is_a_hybrid_with_a_block_for_prediction() -> None:
    file = open_gguf(demo_model())
    assert file.architecture == "qwen35"
    assert file.metadata.get_u32("qwen35.nextn_predict_layers") == 1
    kinds = file.metadata.per_layer_bool("qwen35.attention.recurrent_layers", 13)
    assert sum(kinds) == 9
    assert file.metadata.get_str("tokenizer.chat_template") == CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is slotmux?", ["slotmux is", "GGUF"]),
        ("Who are you?", ["slotmux", "model"]),
        ("What is the licence of slotmux?", ["Apache-2.0"]),
        ("Why is the sky blue?", ["light"]),
        ("Count from 1 to 10.", ["1, 2, 3, 4, 5, 6, 7, 8, 9, 10."]),
        ("What is the capital of France?", ["Paris"]),
    ],
)
def test_it_speaks(server: RunningServer, question: str, words: list[str]) -> None:
    answer = say(server, question)
    assert all(word in answer for word in words), answer


def test_it_remembers_what_was_said(server: RunningServer) -> None:
    answer = say(server, "My name is Clara.", "Nice to meet you, Clara!", "What is my name?")
    assert "Clara" in answer


def test_it_repeats_codewords(server: RunningServer) -> None:
    assert asyncio.run(measure(server.url, 30, 6, seed=1)) == 30


@pytest.mark.real
def test_it_repeats_a_thousand_codewords(server: RunningServer) -> None:
    assert asyncio.run(measure(server.url, 1000, 8, seed=2024)) >= 990


def test_the_cases_are_the_same_every_time() -> None:
    first = recall.cases(50)
    assert first == recall.cases(50)
    assert all(any(case.word in text for _, text in case.messages) for case in first)
    assert {len(case.word) for case in recall.cases(1000)} == set(range(4, 11))
