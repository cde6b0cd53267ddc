"""crossbleed passes a server that keeps its clients apart, and fails each one that does not."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from slotmux.server.cli import app
from slotmux.server.commands.crossbleed import run_checks
from slotmux.server.crossbleed.checks import CheckResult, Crowd, check_identical
from slotmux.server.crossbleed.client import Client, Question, ServerRefusedError
from tests.server.crossbleed.fake_openai import FakeServer


def _http(server: FakeServer, key: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(server.app()),
        base_url="http://fake/v1/",
        headers={"Authorization": f"Bearer {key}"},
    )


async def _run(server: FakeServer, n_clients: int = 4, n_rounds: int = 1) -> dict[str, CheckResult]:
    http = _http(server)
    crowd = Crowd(Client(http), n_clients, n_rounds, random.Random(7))
    return {result.name: result for result in await run_checks(http, crowd)}


async def test_a_good_server_passes_every_check() -> None:
    results = await _run(FakeServer())
    assert list(results) == ["codeword", "identical", "solo"]
    assert all(result.passed for result in results.values())
    assert [result.n_requests for result in results.values()] == [4, 4, 8]
    assert results["codeword"].notes == ["4 of 4 answers hold their own word"]
    assert results["solo"].notes == []


async def test_a_foreign_codeword_fails_the_codeword_check() -> None:
    results = await _run(FakeServer(bleeds_words=True))
    assert not results["codeword"].passed
    assert "was given the word of client" in results["codeword"].failures[0]
    assert results["identical"].passed  # nobody else's words are there to leak


async def test_text_that_changes_in_a_crowd_fails_identical_and_solo() -> None:
    results = await _run(FakeServer(bleeds_text=True))
    assert results["codeword"].passed
    assert "distinct answers" in results["identical"].failures[0]
    assert "the text differs from character" in results["solo"].failures[0]


async def test_logprobs_that_change_in_a_crowd_fail_solo_alone() -> None:
    results = await _run(FakeServer(bleeds_logprobs=True))
    assert results["codeword"].passed
    assert results["identical"].passed
    assert not results["solo"].passed
    assert "logprobs of 6 tokens differ, by up to 1e-06" in results["solo"].failures[0]


async def test_without_logprobs_the_text_is_compared_and_the_result_says_so() -> None:
    good = await _run(FakeServer(has_logprobs=False))
    assert all(result.passed for result in good.values())
    assert good["solo"].notes == ["the server gives no logprobs: only the text was compared"]
    bad = await _run(FakeServer(has_logprobs=False, bleeds_text=True))
    assert not bad["solo"].passed


async def test_a_model_without_chat_is_asked_for_completions() -> None:
    http = _http(FakeServer(chats=False))
    client = Client(http)
    await client.probe()
    assert (client.uses_chat, client.has_logprobs) == (False, True)
    answer = await client.ask(Question("one two three."))
    assert answer.text.startswith("one two three")
    assert answer.logprobs is not None


async def test_busy_answers_are_tried_again() -> None:
    server = FakeServer()
    client = Client(_http(server), "fake-1")
    server.n_busy_answers = 3
    answer = await client.ask(Question("hello there."))
    assert answer.finish_reason == "length"
    assert (server.n_busy_answers, server.n_served) == (0, 1)


async def test_a_request_without_an_answer_fails_the_check() -> None:
    server = FakeServer()
    http = _http(server)
    client = Client(http)
    await client.probe()
    server.chats = False
    result = await check_identical(Crowd(client, 3, 1, random.Random(1)))
    assert not result.passed
    assert len(result.failures) == 3
    assert "HTTP 400: this model has no chat template" in result.failures[0]


async def test_a_wrong_key_is_not_taken_for_a_bleeding_server() -> None:
    with pytest.raises(ServerRefusedError, match="wrong key"):
        await Client(_http(FakeServer(api_key="right"), "wrong")).probe()


@contextmanager
def _listening(server: FakeServer) -> Iterator[str]:
    """The fake server on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app(), log_level="critical", lifespan="off")
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not runner.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        runner.should_exit = True
        thread.join()


def test_the_command_exits_0_and_prints_json_for_a_good_server() -> None:
    with _listening(FakeServer()) as url:
        result = CliRunner().invoke(
            app, ["crossbleed", url, "--clients", "3", "--rounds", "1", "--json"]
        )
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["passed"] is True
    assert report["model"] == "fake-1"
    assert [check["check"] for check in report["checks"]] == ["codeword", "identical", "solo"]


def test_the_command_exits_1_with_a_table_for_a_bleeding_server() -> None:
    with _listening(FakeServer(bleeds_words=True)) as url:
        result = CliRunner().invoke(app, ["crossbleed", url, "--clients", "3", "--rounds", "1"])
    assert result.exit_code == 1
    assert "FAILED" in result.output
    assert "codeword" in result.output
