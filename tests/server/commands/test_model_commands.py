"""bench, logits, perplexity and serve on a tiny model, through the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from slotmux.server.cli import app
from tests.conftest import ROOT

runner = CliRunner()
KEYS = {"test", "n_threads", "n_parallel", "depth", "tokens_per_second", "gb_per_second"}


@pytest.fixture(autouse=True)
def _shared_kernels(monkeypatch: pytest.MonkeyPatch, kernel_cache_dir: Path) -> None:
    monkeypatch.setenv("SLOTMUX_CACHE_DIR", str(kernel_cache_dir.parent))


def test_bench_prints_a_json_line_a_test(tiny_model_path: Callable[..., Path]) -> None:
    flags = ["-p", "20", "-n", "4", "-d", "0,30", "--parallel", "1,3", "-r", "1", "-t", "2"]
    result = runner.invoke(app, ["bench", str(tiny_model_path("llama")), *flags, "--json"])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["test"], line["n_parallel"], line["depth"]) for line in lines] == [
        (test, n, depth) for depth in (0, 30) for n in (1, 3) for test in ("pp20", "tg4")
    ]
    assert all(set(line) == KEYS and line["n_threads"] == 2 for line in lines)
    assert all(line["tokens_per_second"] > 0 and line["gb_per_second"] > 0 for line in lines)


def test_bench_for_people_names_the_bandwidth(tiny_model_path: Callable[..., Path]) -> None:
    flags = ["-p", "0", "-n", "2", "-r", "1", "-t", "1"]
    result = runner.invoke(app, ["bench", str(tiny_model_path("llama")), *flags])
    assert result.exit_code == 0, result.output
    title, heading, line = result.stdout.splitlines()
    assert "memory reads" in title
    assert heading.split() == [
        "test",
        "parallel",
        "depth",
        "tokens/s",
        "GB/s",
        "%",
        "of",
        "bandwidth",
    ]
    assert line.split()[:3] == ["tg2", "1", "0"]


def test_bench_refuses_more_than_the_model_was_trained_for(
    tiny_model_path: Callable[..., Path],
) -> None:
    flags = ["-d", "1000000", "--json"]
    result = runner.invoke(app, ["bench", str(tiny_model_path("llama")), *flags])
    assert "the model was trained for" in str(result.exception)


@pytest.mark.parametrize("n_ubatch", [1, 7, 64])
def test_logits_agree_with_the_references(
    tiny_model_path: Callable[..., Path], golden_dir: Path, tmp_path: Path, n_ubatch: int
) -> None:
    manifest = {m["name"]: m for m in json.loads((golden_dir / "manifest.json").read_text())}
    reference = np.load(golden_dir / "llama" / "reference.npz")
    tokens = json.dumps(reference["ids1"].tolist())
    out = tmp_path / "logits.npy"
    flags = ["--tokens", tokens, "--out", str(out), "--ubatch", str(n_ubatch)]
    flags += ["--cache-type-k", "f32", "--cache-type-v", "f32"]  # as the references were made
    result = runner.invoke(app, ["logits", str(tiny_model_path("llama")), *flags])
    assert result.exit_code == 0, result.output
    logits = np.load(out)
    assert logits.dtype == np.float32
    assert len(logits) == len(reference["ids1"])
    difference = np.abs(logits[reference["rows1"]] - reference["hf1"]).max()
    assert difference <= manifest["llama"]["tol_abs"]


def test_mtp_logits_agree_with_the_references(
    tiny_model_path: Callable[..., Path], golden_dir: Path, tmp_path: Path
) -> None:
    manifest = {m["name"]: m for m in json.loads((golden_dir / "manifest.json").read_text())}
    reference = np.load(golden_dir / "qwen35" / "reference.npz")
    out = tmp_path / "mtp.npy"
    flags = ["--tokens", json.dumps(reference["ids1"].tolist()), "--out", str(out), "--mtp"]
    flags += ["--cache-type-k", "f32", "--cache-type-v", "f32"]
    result = runner.invoke(app, ["logits", str(tiny_model_path("qwen35")), *flags])
    assert result.exit_code == 0, result.output
    got = np.load(out)[reference["mtp_rows1"]]
    assert got.dtype == np.float32
    for source in ("hf", "lcpp"):
        difference = np.abs(got - reference[f"mtp_{source}1"]).max()
        assert difference <= manifest["qwen35"]["tol_abs"]


def test_mtp_logits_of_a_model_without_the_block_are_refused(
    tiny_model_path: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ["--tokens", "[1]", "--out", str(tmp_path / "x.npy"), "--mtp"]
    result = runner.invoke(app, ["logits", str(tiny_model_path("llama")), *flags])
    assert "--mtp" in str(result.exception)


def test_logits_refuse_a_token_outside_the_vocabulary(
    tiny_model_path: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ["--tokens", "[1, 99999999]", "--out", str(tmp_path / "x.npy")]
    result = runner.invoke(app, ["logits", str(tiny_model_path("llama")), *flags])
    assert result.exit_code == 2
    assert "99999999" in result.output


@pytest.mark.parametrize("cells", ["f16", "q8_0"])
def test_perplexity_token_by_token_is_the_same_to_the_bit(
    tiny_model_path: Callable[..., Path], tmp_path: Path, cells: str
) -> None:
    """Heads of 64: few rows take other ways through the kernels than many."""
    text = tmp_path / "text.txt"
    text.write_text((ROOT / "LICENSE").read_text()[:600])
    model = str(tiny_model_path("q-llama", "model-Q8_0.gguf"))
    reports = []
    for n_ubatch in (1, 3, 64):
        flags = ["--ctx", "150", "--ubatch", str(n_ubatch), "--json"]
        flags += ["--cache-type-k", cells, "--cache-type-v", cells]
        result = runner.invoke(app, ["perplexity", model, str(text), *flags])
        assert result.exit_code == 0, result.output
        reports.append(json.loads(result.stdout))
    assert reports[0]["mean_logprob"] < -1
    assert reports[1] == reports[0]
    assert reports[2] == reports[0]


def test_perplexity_does_not_depend_on_how_sequences_are_packed(
    tiny_model_path: Callable[..., Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text((ROOT / "LICENSE").read_text()[:1200])
    reports = []
    for n_sequences, n_ubatch in [(1, 64), (3, 64), (4, 5)]:
        flags = ["--ctx", "48", "-s", str(n_sequences), "-ub", str(n_ubatch), "--json"]
        result = runner.invoke(
            app, ["perplexity", str(tiny_model_path("llama")), str(text), *flags]
        )
        assert result.exit_code == 0, result.output
        reports.append(json.loads(result.stdout))
    assert reports[0]["n_sequences"] > 4
    assert reports[0]["perplexity"] > 1
    assert reports[1] == reports[0]
    assert reports[2] == reports[0]


def test_serve_answers_and_drains(tiny_model_path: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "slotmux.server.cli", "serve", str(tiny_model_path("llama"))]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--parallel", "2", "--alias", "tiny"],
        cwd=ROOT,
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process)
            body = {"model": "tiny", "prompt": "hello", "max_tokens": 5, "temperature": 0}
            reply = client.post("/v1/completions", json=body)
            assert reply.status_code == 200, reply.text
            assert 1 <= reply.json()["usage"]["completion_tokens"] <= 5
            assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "MiB of weights" in log


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    pytest.fail("the server did not become ready")


def test_serve_refuses_a_model_that_does_not_fit(tiny_model_path: Callable[..., Path]) -> None:
    command = [sys.executable, "-m", "slotmux.server.cli", "serve", str(tiny_model_path("llama"))]
    result = subprocess.run(
        [*command, "--port", "0", "--mem-limit", "1000000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert "the limit is 1 MiB" in result.stderr
