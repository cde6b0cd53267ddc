"""The prefix cache's tier on disk behind HTTP: what is told of it, and what a restart keeps."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.server.http.endpoints import check_as_told
from tests.server.tiny_model import serving_model

PROMPT = [5 + i * 7 % 90 for i in range(150)]


def complete(url: str, prompt: list[int], **more: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "n_predict": 6, "temperature": 0, "n_probs": 2, "ignore_eos": True,
            "return_tokens": True, "id_slot": 0} | more  # fmt: skip
    answer = httpx.post(f"{url}/completion", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def metrics(url: str) -> dict[str, float]:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("slotmux_prefix_cache"))
    return {name.removeprefix("slotmux_prefix_cache_"): float(value) for name, value in pairs}


def until_written(url: str) -> dict[str, float]:
    """What a server without work has to write it writes within a moment."""
    deadline = time.monotonic() + 30
    while not (now := metrics(url))["disk_files"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return now


@pytest.mark.parametrize("name", ["llama", "qwen35", "mamba"])
def test_a_restart_keeps_what_was_computed(name, golden_dir, kernel_cache_dir, tmp_path):
    path = golden_dir / name / "model.gguf"
    kind = "state" if name == "mamba" else "block"
    with serving_model(path, kernel_cache_dir, disk=tmp_path / "tier") as server:
        first = complete(server.url, PROMPT)
        assert "cache_disk_n" not in first["timings"]
        history = PROMPT + first["tokens"] + [9] * 20
        want = complete(server.url, history)
        written = until_written(server.url)
        assert written["disk_bytes"] >= written["disk_written_bytes_total"] > 0
        assert written[f'disk_spilled_total{{kind="{kind}"}}'] > 0
        assert written['hit_tokens_total{tier="disk"}'] == 0
        assert written['hit_tokens_total{tier="memory"}'] > 0
    with serving_model(path, kernel_cache_dir, disk=tmp_path / "tier") as server:
        server.engine._core.tier.settle()
        again = complete(server.url, history)
        told = (again["tokens"], again["completion_probabilities"])
        assert told == (want["tokens"], want["completion_probabilities"])
        timings = again["timings"]
        assert timings["cache_disk_n"] == timings["cache_n"] >= 128
        assert timings["cache_memory_n"] == 0
        body = {"prompt": history, "max_tokens": 2, "temperature": 0}
        usage = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] >= 128
        read = metrics(server.url)
        assert read['hit_tokens_total{tier="disk"}'] == timings["cache_n"]
        assert read[f'disk_restored_total{{kind="{kind}"}}'] > 0
        assert all(not n for label, n in read.items() if label.startswith("disk_errors"))
        prefixes = httpx.get(f"{server.url}/debug/prefix").json()
        check_as_told("GET", "/debug/prefix", prefixes)
        assert prefixes["disk"]["n_files"] == read["disk_files"]
        stretches = prefixes["stretches"]
        on_disk = sum(s["n_on_disk"] for s in stretches)
        states = [state["is_on_disk"] for s in stretches for state in s["states"]]
        assert (on_disk > 8) == (name != "mamba")
        assert any(states) == (name != "llama")


def test_what_a_slot_erases_is_erased_on_disk(golden_dir, kernel_cache_dir, tmp_path):
    path = golden_dir / "llama" / "model.gguf"
    (tmp_path / "slots").mkdir()
    kwargs: dict[str, Any] = {"disk": tmp_path / "tier", "slot_save_path": tmp_path / "slots"}
    with serving_model(path, kernel_cache_dir, **kwargs) as server:
        complete(server.url, PROMPT)
        until_written(server.url)
        answer = httpx.post(f"{server.url}/slots/0?action=erase")
        assert answer.json()["n_erased"] >= 144
        server.engine._core.tier.settle()
        assert metrics(server.url)["disk_files"] == 0
        assert complete(server.url, PROMPT)["timings"]["cache_n"] == 0


def test_salts_share_nothing_on_disk(golden_dir, kernel_cache_dir, tmp_path):
    path = golden_dir / "qwen35" / "model.gguf"
    with serving_model(path, kernel_cache_dir, disk=tmp_path / "tier") as server:
        complete(server.url, PROMPT, cache_salt="one")
        until_written(server.url)
    with serving_model(path, kernel_cache_dir, disk=tmp_path / "tier") as server:
        server.engine._core.tier.settle()
        for salt, n in (("two", 0), ("one", 128)):
            assert complete(server.url, PROMPT, cache_salt=salt)["timings"]["cache_n"] >= n
            if not n:
                assert metrics(server.url)["disk_read_bytes_total"] == 0
    for file in (tmp_path / "tier").rglob("*.kv"):
        assert b"one" not in file.read_bytes()[:200]
