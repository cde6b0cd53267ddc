"""The router's process and those of its models: keys, signals, and no orphan whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from slotmux.server.router.processes.sockets import SocketFolder
from tests.server.http.sockets import eventually
from tests.server.process.test_lifecycle import ROOT, free_port

SLOW = {"engine": {"step_s": 0.02}, "script": "slow " * 20}
KEYS = {"Authorization": "Bearer k1"}


@dataclass
class Running:
    popen: subprocess.Popen[str]
    url: str
    folder: Path

    def children(self) -> set[int]:
        """Processes of models."""
        told = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text()
        return {int(pid) for pid in told.split()}

    def is_up(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health").status_code == 200
        return False

    def ask(self, **body) -> httpx.Response:
        body = {"model": "slow", "prompt": "x", "max_tokens": -1} | body
        return httpx.post(f"{self.url}/v1/completions", json=body, headers=KEYS, timeout=30)


@contextlib.contextmanager
def serving(folder: Path, **flags) -> Iterator[Running]:
    (folder / "slow.gguf").write_text(json.dumps(SLOW))
    (folder / "late.gguf").write_text(json.dumps({"load_s": 30}))
    flags = {"models_dir": str(folder), "port": free_port(), "api_key": "k1,k2"} | flags
    popen = subprocess.Popen(
        [sys.executable, "-m", "tests.server.router.run_fake", json.dumps(flags)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    running = Running(popen, f"http://127.0.0.1:{flags['port']}", folder)
    try:
        eventually(running.is_up, within_s=30)
        yield running
    finally:
        popen.kill()
        popen.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_keys_are_looked_at_once_and_told_apart_behind(tmp_path):
    with serving(tmp_path) as router:
        answer = httpx.get(f"{router.url}/v1/models")
        assert answer.status_code == 401
        stored = httpx.post(
            f"{router.url}/v1/responses",
            json={"model": "slow", "input": "x"},
            headers=KEYS,
            timeout=30,
        ).json()
        path = f"{router.url}/v1/responses/{stored['id']}"
        assert httpx.get(path, headers=KEYS).status_code == 200
        other = {"Authorization": "Bearer k2"}
        assert httpx.get(path, headers=other).status_code == 404
        # Nobody says by a header of his own whose key it was.
        forged = other | {"X-Slotmux-Key": "e3b0c44298fc"}
        assert httpx.get(path, headers=forged).status_code == 404
        router.popen.send_signal(signal.SIGTERM)
        output = router.popen.communicate(timeout=30)[1]
    lines = [json.loads(line) for line in output.splitlines()]
    told = [
        line for line in lines if line["event"] == "request" and line["route"] == "/v1/responses"
    ]
    assert [line["model"] for line in told] == ["slow"]  # once, by the process that knows most
    assert re.fullmatch("[0-9a-f]{12}", told[0]["key"])


def test_the_first_signal_lets_answers_finish_and_ends_every_process(tmp_path):
    with serving(tmp_path) as router:
        router.ask(max_tokens=1)
        children = router.children()
        assert len(children) == 1
        with httpx.stream(
            "POST",
            f"{router.url}/v1/completions",
            json={"model": "slow", "prompt": "x", "max_tokens": -1, "stream": True},
            headers=KEYS,
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            router.popen.send_signal(signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert router.popen.wait(30) == 0
        assert not any(map(is_alive, children))
        output = router.popen.communicate()[1]
    assert '"level":"error"' not in output
    assert "Fatal" not in output


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_no_process_outlives_the_router(tmp_path, number):
    with serving(tmp_path, parallel=1) as router:
        router.ask(max_tokens=1)
        body = {"model": "late"}
        httpx.post(f"{router.url}/models/load", json=body, headers=KEYS, timeout=30)
        eventually(lambda: len(router.children()) == 2, within_s=10)
        children = router.children()
        os.kill(router.popen.pid, number)
        router.popen.wait(10)
        eventually(lambda: not any(map(is_alive, children)), within_s=5)


def test_a_second_signal_ends_all_at_once(tmp_path):
    with serving(tmp_path) as router:
        router.ask(max_tokens=1)
        children = router.children()
        body = {"model": "slow", "prompt": "x", "max_tokens": -1, "stream": True}
        url = f"{router.url}/v1/completions"
        with httpx.stream("POST", url, json=body, headers=KEYS) as answer:
            next(answer.iter_lines())
            router.popen.send_signal(signal.SIGTERM)
            eventually(lambda: not router.is_up(), within_s=5)
            router.popen.send_signal(signal.SIGTERM)
            assert router.popen.wait(10) == 128 + signal.SIGTERM
        eventually(lambda: not any(map(is_alive, children)), within_s=5)


def test_folders_of_sockets_that_nobody_holds_are_removed():
    with tempfile.TemporaryDirectory() as base:
        held = SocketFolder(Path(base))
        stale = Path(base) / "slotmux-models-stale"
        stale.mkdir()
        (stale / "lock").touch()
        (stale / "1.sock").touch()
        other = SocketFolder(Path(base))
        assert not stale.exists()
        assert held.path.exists()
        assert held.path.stat().st_mode & 0o777 == 0o700
        assert held.new() != held.new()
        held.close()
        other.close()
        assert not any(Path(base).iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"mem_limit": 1000}, "--mem-limit 1000 leaves nothing for models"),
        ({"models_config": "x.ini"}, "models_config: there is no such file"),
    ],
)
def test_what_cannot_work_ends_the_start(tmp_path, flags, words):
    argument = json.dumps({"models_dir": str(tmp_path)} | flags)
    command = [sys.executable, "-m", "tests.server.router.run_fake", argument]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert words.replace("models_config", "--models-config") in ended.stderr
