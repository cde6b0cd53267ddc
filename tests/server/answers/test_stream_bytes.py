"""Server-sent events, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import orjson
import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running

HEAD = '"created":0,"model":"fake","system_fingerprint":"slotmux","choices":['
USAGE = (
    '"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10,'
    '"prompt_tokens_details":{"cached_tokens":3}}'
)
TIMINGS = (
    '"timings":{"cache_n":3,"prompt_n":5,"prompt_ms":2.0,"prompt_per_token_ms":0.4,'
    '"prompt_per_second":2500.0,"predicted_n":2,"predicted_ms":3.0,'
    '"predicted_per_token_ms":1.5,"predicted_per_second":666.667}'
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine(script=b'"\n')) as server:
        yield server


def stream(server: RunningServer, path: str, **body) -> str:
    answer = httpx.post(f"{server.url}{path}", json={"stream": True} | body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    text = re.sub(r'"id":"(chatcmpl|cmpl)-[0-9a-f]{32}"', r'"id":"\1-ID"', answer.text)
    return re.sub(r'"created":\d+', '"created":0', text)


def test_chat_without_usage(server):
    head = 'data: {"id":"chatcmpl-ID","object":"chat.completion.chunk",' + HEAD
    open_end = ',"logprobs":null,"finish_reason":null}]}\n\n'
    expected = (
        head + '{"index":0,"delta":{"role":"assistant","content":""}' + open_end
        + head + '{"index":0,"delta":{"content":"\\""}' + open_end
        + head + '{"index":0,"delta":{"content":"\\n"}' + open_end
        + head + '{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],'
        + TIMINGS + "}\n\n"
        + "data: [DONE]\n\n"
    )  # fmt: skip
    messages = [{"role": "user", "content": "hi"}]
    assert stream(server, "/v1/chat/completions", messages=messages) == expected


def test_completion_with_usage(server):
    head = 'data: {"id":"cmpl-ID","object":"text_completion",' + HEAD
    open_end = ',"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
    expected = (
        head + '{"index":0,"text":"\\""' + open_end
        + head + '{"index":0,"text":"\\n"' + open_end
        + head + '{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
        + head + "]," + USAGE + "," + TIMINGS + "}\n\n"
        + "data: [DONE]\n\n"
    )  # fmt: skip
    options = {"include_usage": True}
    got = stream(server, "/v1/completions", prompt="12345678", stream_options=options)
    assert got == expected


def test_a_failure_in_mid_stream_is_one_error_event_without_done():
    with running(FakeEngine(fail_at=2)) as server:
        text = stream(server, "/v1/completions", prompt="12345678")
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert [orjson.loads(e)["choices"][0]["text"] for e in events[:-1]] == ["H", "e"]
    assert orjson.loads(events[-1])["error"]["code"] == "internal_error"
    assert "[DONE]" not in text


def test_a_failure_before_the_first_token_has_a_status_of_its_own():
    with running(FakeEngine(fail_at=0)) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", "stream": True})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"


def test_silence_is_filled_with_comments():
    with running(FakeEngine(prompt_s=0.5), sse_ping_interval=0.1) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", "stream": True})
    assert answer.text.startswith(":\n\n:\n\n")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_held_back_character_is_never_split(server):
    with running(FakeEngine(script="aß€😀b".encode())) as server:
        text = stream(server, "/v1/completions", prompt="x")
    chunks = [line.removeprefix("data: ") for line in text.split("\n\n") if "choices" in line]
    deltas = [orjson.loads(chunk)["choices"][0]["text"] for chunk in chunks]
    assert deltas == ["a", "ß", "€", "😀", "b", ""]
