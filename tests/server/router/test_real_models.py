"""Two tiny real models behind the router: each answers as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from slotmux.server.router.fleet.room import Room
from slotmux.server.router.processes.process import COMMAND
from slotmux.server.settings import Settings
from tests.server.router.fakes import RunningRouter, started

NAMES = ("llama", "qwen35")
BODY = {"prompt": "1 2 3", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
FLAGS: dict[str, Any] = {"ctx_size": 128, "parallel": 2, "ubatch_size": 64, "threads": 2}


@pytest.fixture(scope="module")
def http(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model_path: Callable[..., Path],
    kernel_cache_dir: Path,
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        (folder / f"{name}.gguf").symlink_to(tiny_model_path(name))
    flags = FLAGS | {"models_dir": folder, "cache_dir": kernel_cache_dir.parent}
    router = RunningRouter(Settings(**flags), flags, Room(10**9), COMMAND)
    with started(router), httpx.Client(base_url=router.url, timeout=300) as client:
        yield client


def ask(http: httpx.Client, model: str) -> str:
    answer = http.post("/v1/completions", json=BODY | {"model": model})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return answer.json()["choices"][0]["text"]


def test_models_answer_as_if_they_were_alone(http):
    alone = {name: ask(http, name) for name in NAMES}
    assert alone["llama"] != alone["qwen35"]
    with ThreadPoolExecutor(6) as pool:
        asked = [name for name in NAMES for _ in range(6)]
        together = pool.map(lambda name: ask(http, name), asked)
        assert [(name, text) for name, text in zip(asked, together, strict=True)] == [
            (name, alone[name]) for name in asked
        ]


def test_what_is_told_of_a_model_is_the_same_loaded_or_not(http):
    ask(http, "qwen35")
    loaded = http.get("/v1/models/qwen35").json()
    shown = http.post("/api/show", json={"model": "qwen35"}).json()
    assert loaded["status"]["value"] == "loaded"
    assert loaded["memory"] > loaded["meta"]["size"] > 0
    http.post("/api/generate", json={"model": "qwen35", "keep_alive": 0})
    while http.get("/v1/models/qwen35").json()["status"]["value"] != "unloaded":
        pass
    unloaded = http.get("/v1/models/qwen35").json()
    differ = {name for name in loaded if loaded[name] != unloaded[name]}
    assert differ == {"status", "memory"}
    assert http.post("/api/show", json={"model": "qwen35"}).json() == shown
