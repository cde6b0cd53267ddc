"""What `make serve-ray` starts, as a process: here with Ray's own proxies, and no front."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.operators.servers import free_port

OURS = {"RAY_SERVE_ENABLE_HA_PROXY", "RAY_ADDRESS"}


def start(*words: str) -> subprocess.Popen[str]:
    """In an environment as a user has it."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.Popen(
        [sys.executable, "-m", "slotmux.deploy.ray.local", *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> Iterator[str]:
    """Its lines, as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("slotmux: "):
            yield line.strip()


def test_sessions_stay_behind_rays_own_proxies_and_a_signal_ends_all() -> None:
    port = free_port()
    process = start(
        f"port={port}", "cpus=4", "proxy=ray", "path=ingress", "routing=session",
        "model=demo", "replicas=2", "parallel=2", "ctx_size=1024", "spec_type=none",
    )  # fmt: skip
    try:
        lines = said(process)
        assert next(lines) == f"slotmux: ready on http://127.0.0.1:{port}/v1"
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        text = "A text that is long enough for some blocks of cells, and then some more. " * 3
        for i in range(6):
            # Each in a session of its own: the second time its own replica has all of it.
            messages = [{"role": "user", "content": f"{i}. {text}"}]
            body = {"messages": messages, "max_tokens": 2}
            for turn in range(3):
                answer = httpx.post(url, json=body, headers={"X-Session-Id": f"s{i}"}, timeout=60)
                usage = answer.json()["usage"]
                n_cached = usage["prompt_tokens_details"]["cached_tokens"]
                assert (n_cached > 0.5 * usage["prompt_tokens"]) == (turn > 0)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("word", "told"),
    [("parallel=0", "parallel"), ("routing=x", "routing"), ("cores=4096", "cpus=4096")],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(word: str, told: str) -> None:
    process = start(f"port={free_port()}", word)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("slotmux: ")]
    assert told in line
