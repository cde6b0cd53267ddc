"""RELIABILITY classes F, G, L, N for every name that is known: no value of it gives a 5xx or goes
unnamed, no text in it breaks an answer, and no name of a request is anybody else's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotmux.server.http.errors import ApiError
from slotmux.server.process.logs import LOGGER, JsonFormatter
from slotmux.server.schemas.base import StrictModel, validate
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.parameters import TABLES, Place
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.http.test_hostile_bodies import CANARY, CHAT, TEXT, VALUES, check_error

ENDPOINTS: dict[Place, tuple[str, type[StrictModel], dict[str, Any]]] = {
    Place.CHAT: ("/v1/chat/completions", ChatRequest, CHAT),
    Place.COMPLETION: ("/v1/completions", CompletionRequest, TEXT),
}
NAMES = [(place, name) for place in ENDPOINTS for name in TABLES[place]]
EXTREMES = [
    *VALUES,
    *(-(2**31), -(2**31) - 1, 10**18, 5e-324, -1e300, 0.1, 1e16),
    *(False, [True], [1.5], [-1], [2**31], [""], ["x"] * 2000, {"": 0}, {"0": 1e300}),
    *({"type": CANARY}, {"type": []}, [{"type": "text"}], [[["x"]]], {"a": {"b": [None]}}),
]
ODD_TEXTS = [
    *("\0", "a\0b", "\ufffe", "\U0010ffff", "\u202e", "e" + "\u0301" * 500, "\r\nX-Evil: 1"),
    *("\x1b[31m", "😀" * 300, "[DONE]", "data: x\n\n", "</s><|im_end|>", "{{ 7*7 }}", "%s%n"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine(script=b"ok", step_s=0.0, max_queue=1000)) as server:
        yield server
        assert server.engine.n_busy == 0
        assert server.state.service.intake.running == set()


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def refusal_of(model: type[StrictModel], body: dict[str, Any]) -> ApiError | None:
    try:
        validate(model, body)
    except ApiError as error:
        return error
    return None


@pytest.mark.parametrize(("place", "name"), NAMES)
def test_every_value_of_every_name(http, place: Place, name: str) -> None:
    path, model, body = ENDPOINTS[place]
    n_refused = 0
    for value in EXTREMES:
        sent = body | {name: value}
        error = refusal_of(model, sent)
        if error is not None:
            n_refused += 1
            assert error.status == 400
            assert error.param is not None
            assert error.param.startswith(name), (value, error.param)
            assert CANARY not in error.message
        else:  # the engine and the template may still refuse it
            answer = http.post(path, json=sent)
            if answer.status_code != 200:
                refused = check_error(answer, 400, 404)
                is_number_too_big = refused["code"] == "invalid_json"
                assert is_number_too_big or refused["param"].startswith(name), (value, refused)
    takes_anything = TABLES[place][name].advice == "any"
    assert n_refused or takes_anything, "nothing was refused"


TEXT_FIELDS = [
    *("user", "safety_identifier", "session_id", "prompt_cache_key", "cache_salt", "stop", "model"),
    *("request_id", "service_tier", "prompt", "keep_alive", "prompt_cache_retention", "suffix"),
]
MESSAGE_FIELDS = ["content", "name", "reasoning_content", "id", "timestamp", "status", "parsed"]


@pytest.mark.parametrize("name", TEXT_FIELDS)
def test_odd_texts_in_a_body(http, name: str) -> None:
    for text in ODD_TEXTS:
        answer = http.post("/v1/completions", json=TEXT | {name: text})
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["text"] == "ok"
        else:
            assert check_error(answer, 400, 404)["param"].startswith(name)


@pytest.mark.parametrize("name", MESSAGE_FIELDS)
def test_odd_texts_in_a_message(http, name: str) -> None:
    for text in ODD_TEXTS:
        message = {"role": "assistant", "content": "x", name: text}
        user = {"role": "user", "content": "hi"}
        answer = http.post("/v1/chat/completions", json={"messages": [message, user]})
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["message"]["content"] == "ok"
        else:
            assert check_error(answer, 400)["param"].startswith(("messages[0]", "messages"))


@pytest.mark.parametrize("header", ["x-request-id", "x-session-id", "traceparent", "session-id"])
def test_odd_headers(server, header: str) -> None:
    for sent in (b"a" * 4096, b"\xff\xfe", b"a\tb", b"\xc3\xa4", b"00-x", b"%0d%0aX: 1"):
        answer = httpx.post(f"{server.url}/v1/completions", json=TEXT, headers=[(header, sent)])
        assert answer.status_code == 200
        assert set(answer.headers) >= {"x-request-id", "x-slot-id"}
        assert "x" not in answer.headers


def test_log_lines_stay_lines(http, caplog) -> None:
    """What clients name themselves is not logged; what is, is one line of JSON."""
    with caplog.at_level(logging.DEBUG, LOGGER):
        logging.getLogger(LOGGER).addHandler(caplog.handler)
        for text in ODD_TEXTS:
            body = TEXT | {"user": CANARY + text, "session_id": CANARY + text, "stop": CANARY}
            http.post("/v1/completions", json=body)
            http.post("/v1/completions", json=TEXT | {CANARY + text: 1})
        logging.getLogger(LOGGER).removeHandler(caplog.handler)
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert lines
    for line in lines:
        assert json.loads(line)
        assert "\n" not in line
        assert "\x1b" not in line
        assert CANARY not in line


# -- L: names of requests


async def test_a_hundred_requests_of_one_name_get_their_own_answers(server) -> None:
    headers = {"x-request-id": "same", "x-session-id": "same"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:

        async def ask(index: int) -> None:
            body = {"prompt": f"p{index}", "echo": True, "request_id": "same"}
            if index % 5 == 4:  # these leave, and must take nobody with them
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.0005 * index):
                        await client.post("/v1/completions", json=body)
                return
            answer = await client.post("/v1/completions", json=body)
            assert answer.json()["choices"][0]["text"] == f"p{index}ok"
            assert answer.headers["x-request-id"] == "same"

        await asyncio.gather(*map(ask, range(100)))


# -- N: bytes of answers


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(min_size=1, max_size=30), st.booleans(), st.integers(1, 3))
def test_a_stream_gives_the_text_of_the_whole(http, server, text: str, is_rich: bool, n: int):
    server.engine.script = text.encode("utf-8", "replace")
    try:
        extra = {"logprobs": 1, "return_token_ids": True} if is_rich else {}
        body = TEXT | {"n": n, "max_tokens": 200} | extra
        whole = [c["text"] for c in http.post("/v1/completions", json=body).json()["choices"]]
        answer = http.post("/v1/completions", json=body | {"stream": True})
    finally:
        server.engine.script = b"ok"
    events = [line for line in answer.content.decode("utf-8").split("\n\n") if line]
    assert events.pop() == "data: [DONE]"
    streamed = [""] * n
    for event in events:
        for choice in json.loads(event.removeprefix("data: "))["choices"]:
            streamed[choice["index"]] += choice["text"]
    assert streamed == whole == [text.encode("utf-8", "replace").decode()] * n
