"""The whole process: loading, probes, signals, exit codes (RELIABILITY class U and section 5)."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from slotmux.server.process.pulse import Pulse
from tests.server.fake_engine import FakeEngine

ROOT = Path(__file__).parents[3]
SLOW = {"engine": {"step_s": 0.02}, "repeat": 3}  # 39 tokens, 0.8 s
BODY = {"prompt": "x", "max_tokens": -1}


@dataclass
class Process:
    popen: subprocess.Popen[str]
    url: str

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}")

    def post(self, **body) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/completions", json=BODY | body, timeout=20)

    def wait_for(self, path: str, status: int) -> None:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self.get(path).status_code == status:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def exit_code(self, within_s: float = 10) -> int:
        return self.popen.wait(within_s)

    def output(self) -> str:
        return self.popen.communicate(timeout=10)[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@contextlib.contextmanager
def serving(**options) -> Iterator[Process]:
    port = free_port()
    settings = {"port": port, "drain_timeout": 5} | options.pop("settings", {})
    argument = json.dumps(options | {"settings": settings})
    popen = subprocess.Popen(
        [sys.executable, "-m", "tests.server.process.serve_fake", argument],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Process(popen, f"http://127.0.0.1:{port}")
    finally:
        popen.kill()
        popen.communicate()


def test_http_is_up_while_the_model_loads():
    with serving(load_s=2.0) as process:
        process.wait_for("/livez", 200)
        for path in ("/health", "/readyz", "/v1/models", "/props"):
            answer = process.get(path)
            assert answer.status_code == 503
            assert answer.json()["error"]["message"] == "Loading model"
            assert answer.headers["retry-after"]
        assert process.post().status_code == 503
        assert "slotmux_ready 0.0" in process.get("/metrics").text
        process.wait_for("/health", 200)
        assert process.post().json()["choices"][0]["text"] == "Hello wörld."
        process.popen.send_signal(signal.SIGTERM)
        assert process.exit_code() == 0


def test_a_model_that_cannot_be_loaded_is_exit_code_2():
    with serving(load_error="tensor blk.0: truncated") as process:
        assert process.exit_code() == 2
        assert "slotmux: tensor blk.0: truncated" in process.output()


def test_a_taken_port_is_exit_code_2_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with serving(load_s=60, settings={"port": port}) as process:
            assert process.exit_code() == 2
            assert "cannot listen" in process.output()


def test_a_signal_drains_running_work_and_refuses_new():
    with serving(**SLOW) as process, ThreadPoolExecutor(2) as pool:
        process.wait_for("/readyz", 200)
        whole = pool.submit(process.post)
        streamed = pool.submit(process.post, stream=True)
        time.sleep(0.3)
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("/readyz", 503)
        refused = process.post()
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.headers["x-llm-d-request-dropped-reason"] == "rejected-shutting-down"
        assert refused.json()["error"]["code"] == "server_shutdown"
        assert process.get("/livez").status_code == 200
        assert whole.result().json()["choices"][0]["text"] == "Hello wörld." * 3
        assert streamed.result().text.endswith("data: [DONE]\n\n")
        assert process.exit_code() == 0


def test_a_drain_that_takes_too_long_ends_what_runs_with_an_error():
    slow = {"engine": {"step_s": 0.05}, "repeat": 100}
    with serving(**slow, settings={"drain_timeout": 0.3}) as process, ThreadPoolExecutor(2) as pool:
        process.wait_for("/readyz", 200)
        whole = pool.submit(process.post)
        streamed = pool.submit(process.post, stream=True)
        time.sleep(0.3)
        process.popen.send_signal(signal.SIGINT)
        assert whole.result().status_code == 503
        assert whole.result().json()["error"]["code"] == "server_shutdown"
        assert whole.result().headers["x-llm-d-request-dropped-reason"] == "evicted"
        last = streamed.result().text.strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_shutdown"
        assert process.exit_code() == 0


def test_a_second_signal_ends_at_once():
    slow = {"engine": {"step_s": 0.05}, "repeat": 100}
    with serving(**slow, settings={"drain_timeout": 60}) as process, ThreadPoolExecutor(1) as pool:
        process.wait_for("/readyz", 200)
        cut = pool.submit(process.post)
        time.sleep(0.3)
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("/readyz", 503)
        process.popen.send_signal(signal.SIGTERM)
        assert process.exit_code(2) == 128 + signal.SIGTERM
        assert isinstance(cut.exception(), httpx.TransportError)


def test_a_signal_while_loading_ends_at_once():
    with serving(load_s=60) as process:
        process.wait_for("/livez", 200)
        process.popen.send_signal(signal.SIGHUP)  # harmless
        assert process.get("/livez").status_code == 200
        process.popen.send_signal(signal.SIGTERM)
        assert process.exit_code(3) == 0


def test_a_dead_engine_answers_everyone_and_ends_the_process():
    slow = {"engine": {"step_s": 0.05}, "repeat": 100}
    with serving(**slow, die_after_s=1.0) as process, ThreadPoolExecutor(2) as pool:
        process.wait_for("/readyz", 200)
        whole = pool.submit(process.post)
        streamed = pool.submit(process.post, stream=True)
        assert whole.result(5).status_code == 503
        assert whole.result().json()["error"]["code"] == "engine_dead"
        assert '"engine_dead"' in streamed.result(5).text
        assert process.exit_code(5) == 70
        assert '"exception":"RuntimeError"' in process.output()


def test_a_kernel_that_never_ends_ends_the_process():
    settings = {"hang_timeout": 0.6}
    with serving(hang_after_s=1.0, settings=settings) as process:
        process.wait_for("/readyz", 200)
        assert process.exit_code(6) == 70
        output = process.output()
        assert '"event":"the engine hangs"' in output
        assert "most recent call first" in output, "the stacks were to be dumped"


def test_a_thread_that_keeps_the_interpreter_lock_ends_the_process():
    settings = {"hang_timeout": 0.6}
    with serving(freeze_after_s=1.0, settings=settings) as process:
        process.wait_for("/readyz", 200)
        assert process.exit_code(6) == 1
        assert "most recent call first" in process.output()


def test_a_long_step_that_gets_ahead_is_no_hang():
    engine = FakeEngine(heartbeat_age_s=100.0)
    pulse = Pulse(engine)
    for now in range(100):
        engine.progress += 1
        pulse.observe(float(now))
        assert pulse.stalled_s == 0
    pulse.observe(99.5)
    pulse.observe(100.0)
    assert pulse.stalled_s == 1.0
    pulse.observe(1000.0)  # the process was stopped meanwhile
    assert pulse.stalled_s == 2.0
    engine.heartbeat_age_s = 0.1
    pulse.observe(1001.0)
    assert pulse.stalled_s == 0
