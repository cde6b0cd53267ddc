"""`slotmux chat` without a person: what is piped in is answered, nothing else is printed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from slotmux.server.cli import app
from slotmux.server.commands import chat as chat_command
from slotmux.server.loading.errors import CommandError
from slotmux.server.settings import load_settings
from slotmux.server.terminal.client import Address, RefusedError, Server, address_of, is_address
from tests.conftest import ROOT
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.terminal.pseudo import wait_until

GREETING = "Hello wörld.\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine(n_ctx=4096)) as server:
        yield server


def ask(*args: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["chat", *args], input=typed)


def test_what_is_piped_in_is_one_message(server: RunningServer) -> None:
    result = ask(server.url, typed="one\n/help\n")
    assert (result.exit_code, result.stdout) == (0, GREETING)
    assert bytes(server.engine.submitted[-1].prompt) == b"<user>one\n/help"


def test_a_message_stands_before_what_is_piped_in(server: RunningServer) -> None:
    result = ask(f"{server.url}/v1/", "sum", "up:", typed="a text")
    assert (result.exit_code, result.stdout) == (0, GREETING)
    assert bytes(server.engine.submitted[-1].prompt) == b"<user>sum up:\n\na text"


def test_flags_become_parameters(server: RunningServer) -> None:
    flags = ["--temp", "0.5", "--top-k", "7", "--top-p", "0.9", "--min-p", "0.1", "--seed", "3"]
    flags += ["-n", "4", "--set", "presence_penalty=0.5", "--system", "Be terse."]
    result = ask(server.url, *flags, typed="go")
    assert (result.exit_code, result.stdout) == (0, "Hell\n")
    request = server.engine.submitted[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 7, 0.9)
    assert (sampling.min_p, sampling.seed, sampling.presence_penalty) == (0.1, 3, 0.5)
    assert request.max_tokens == 4
    assert bytes(request.prompt) == b"<system>Be terse.<user>go"
    assert "[cut: " in result.stderr


def test_tokens_a_second(server: RunningServer) -> None:
    result = ask(server.url, "--verbose", typed="go")
    assert result.stdout == GREETING
    assert "13 tokens, " in result.stderr
    assert "prompt 8 tokens, 3 of them in memory" in result.stderr


def test_a_thought_is_no_answer(thinker: RunningServer) -> None:
    result = ask(thinker.url, typed="so?")
    assert result.stdout == "Hi.\n"
    full = ask(thinker.url, "--thoughts", "full", typed="so?")
    assert full.stdout == "Hi.\n"
    assert "Hm. 5\n" in full.stderr


def test_a_key_is_sent_and_asked_for() -> None:
    with running(FakeEngine(), api_key=("secret",)) as server:
        assert ask(server.url, "--api-key", "secret", typed="go").stdout == GREETING
        refused = ask(server.url, typed="go")
        assert isinstance(refused.exception, RefusedError)
        assert refused.exception.status == 401
        assert "--api-key" in str(refused.exception)


@pytest.mark.parametrize(
    ("args", "typed", "told"),
    [
        ((), "", "nothing was piped in"),
        (("--set", "temperature"), "go", "write NAME=VALUE"),
        (("--set", "stream=false"), "go", "stream is no parameter"),
        (("--set", "nonsense=1"), "go", "nonsense"),
        (("--model", "other"), "go", "does not exist here"),
        ((), "refuse me", "the template refused"),
    ],
)
def test_refusals(server: RunningServer, args: tuple[str, ...], typed: str, told: str) -> None:
    result = ask(server.url, *args, typed=typed)
    assert result.stdout == ""
    assert isinstance(result.exception, CommandError)
    assert told in str(result.exception)


def test_an_answer_that_fails_half_way_is_told() -> None:
    with running(FakeEngine(fail_at=5)) as server:
        result = ask(server.url, typed="go")
    assert isinstance(result.exception, RefusedError)


def test_a_full_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with running(FakeEngine(n_slots=1, max_queue=0, step_s=0.02, script=b"x" * 50)) as server:
        first = subprocess.Popen(
            [sys.executable, "-m", "slotmux.server.cli", "chat", server.url, "go"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        wait_until(lambda: server.engine.submitted)

        def wait(seconds: float) -> None:
            waits.append(seconds)
            first.wait(30)

        clock = SimpleNamespace(sleep=wait, monotonic=time.monotonic)
        monkeypatch.setattr("slotmux.server.terminal.client.time", clock)
        result = ask(server.url, typed="me too")
        assert result.stdout == "x" * 50 + "\n"
        assert waits == [7.0]
        assert first.communicate(timeout=30)[0].decode() == "x" * 50 + "\n"


def test_a_model_gets_a_server_that_ends_with_the_chat(
    tiny_model_path: Callable[..., Path], tmp_path: Path, kernel_cache_dir: Path
) -> None:
    result = subprocess.run(
        [
            sys.executable, "-m", "slotmux.server.cli", "chat", str(tiny_model_path("llama")),
            "--cache-dir", str(kernel_cache_dir.parent), "--ctx-size", "64",
            "-n", "4", "--temp", "0", "-v",
        ],
        input="hi", capture_output=True, text=True, cwd=ROOT, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "4 tokens" in result.stderr
    assert result.stdout.endswith("\n")


def test_without_a_target_the_server_of_this_machine_is_asked(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOTMUX_PORT", str(server.port))
    assert ask(typed="go").stdout == GREETING
    with running(FakeEngine(), api_key=("secret",)) as locked:
        settings = load_settings(port=locked.port)
        assert chat_command.local_server(settings, "") == Address(locked.url)
    assert chat_command.local_server(load_settings(port=9), "") is None


def test_addresses_and_models_are_told_apart() -> None:
    for address in (
        "http://host:1/v1", "https://host", "localhost", "host.example:8080", "[::1]:80",
        "10.0.0.1:80/",
    ):  # fmt: skip
        assert is_address(address), address
    for model in (
        "demo", "model.gguf", "hf:USER/REPO", "hf:USER/REPO:Q4_K_M", "USER/REPO:Q4_0", "./a:80/b",
        "https://hf.co/USER/REPO", "USER/REPO", "llama3.2:latest",
    ):  # fmt: skip
        assert not is_address(model), model
    assert address_of("host:80/v1/", "k") == Address("http://host:80", "k")


def test_a_model_in_memory_is_asked_first() -> None:
    """As routers list them, ours and llama-server's."""
    listed = [
        {"id": "a", "status": {"value": "unloaded"}},
        {"id": "b", "status": {"value": "loaded"}},
        {"id": "c"},
    ]
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": listed}))
    with Server(Address("http://here")) as server:
        server._http = httpx.Client(base_url="http://here/", transport=answer)
        assert server.models() == ["b", "c", "a"]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr("slotmux.server.terminal.client.time", clock)
    why: list[str] = []
    with running() as server, Server(Address(server.url), why.append) as client:  # no model
        with pytest.raises(RefusedError):
            client.models()
        assert 600 <= now[0] < 640
        with pytest.raises(RefusedError), client.stream("v1/chat/completions", {"messages": []}):
            pass
    assert len(why) == 2  # each wait is told once


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(server.url, typed="go").stdout == GREETING
    here = [Address(url).is_here for url in ("http://127.1.2.3:1", "http://[::1]", "http://a.b")]
    assert here == [True, True, False]


def test_nothing_of_a_key_is_shown(server: RunningServer) -> None:
    address = Address(server.url, "secret")
    assert json.dumps(address.headers) == '{"Authorization": "Bearer secret"}'
    assert "secret" not in repr(address)
