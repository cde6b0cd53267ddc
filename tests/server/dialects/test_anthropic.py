"""Anthropic's Messages API: what clients send, what they read, and errors in its shape."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from slotmux.server.answers.delta import Delta, ToolDelta
from slotmux.server.dialects.anthropic.messages import chat_messages
from slotmux.server.dialects.anthropic.schema import MessagesRequest, chat_body
from slotmux.server.http.errors import ApiError
from slotmux.server.schemas.base import validate
from tests.server.dialects.reading import events
from tests.server.dialects.scripted import scripted
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running
from tests.server.http.sockets import eventually

TEXT = "Hello wörld."
USER = [{"role": "user", "content": "x"}]
BASE: dict[str, Any] = {"model": "fake", "max_tokens": 64, "messages": USER}


def test_a_whole_message(http):
    answer = http.post("/v1/messages", json=BASE, headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["id"].startswith("msg_")
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "fake")
    assert body["content"] == [{"type": "text", "text": TEXT}]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    n_prompt = len("<user>x")
    assert body["usage"] == {
        "input_tokens": n_prompt - 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": len(TEXT.encode()),
    }


def test_a_stream_has_named_events_in_their_order(http):
    answer = http.post("/v1/messages", json=BASE | {"stream": True})
    found = events(answer.text)
    names = [name for name, _ in found]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert all(data["type"] == name for name, data in found)
    start = found[0][1]["message"]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["output_tokens"] == 0
    assert found[2][1]["content_block"] == {"type": "text", "text": ""}
    assert "".join(data["delta"]["text"] for _, data in found[3:-3]) == TEXT
    last = found[-2][1]
    assert last["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert last["usage"]["output_tokens"] == len(TEXT.encode())
    assert "[DONE]" not in answer.text


def test_a_limit_is_told(http):
    body = http.post("/v1/messages", json=BASE | {"max_tokens": 2}).json()
    assert (body["content"][0]["text"], body["stop_reason"]) == ("He", "max_tokens")


def test_sampling_and_stops_reach_the_engine(server):
    engine, client = server
    body = BASE | {
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop_sequences": ["a", "b"],
        "metadata": {"user_id": "u"}, "service_tier": "auto",
    }  # fmt: skip
    assert client.post("/v1/messages", json=body).status_code == 200
    request = engine.submitted[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert (request.stop, request.max_tokens) == (("a", "b"), 64)


def test_counting(http):
    body = {name: BASE[name] for name in ("model", "messages")} | {"system": "s"}
    answer = http.post("/v1/messages/count_tokens", json=body)
    assert answer.json() == {"input_tokens": len("<system>s<user>x")}


BILLING = "x-anthropic-billing-header: cc_version=2.1.9.e1a; cc_entrypoint=cli; cch={};"


def test_what_changes_in_claude_codes_system_prompt_is_cut(server):
    """Else no two requests of a conversation would share a prefix."""
    engine, client = server
    for cch in ("00000", "fffff"):
        system = [
            {"type": "text", "text": BILLING.format(cch)},
            {"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}},
        ]
        headers = {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14"}
        body = BASE | {"system": system, "context_management": {"edits": []}}
        assert client.post("/v1/messages", json=body, headers=headers).status_code == 200
    first, second = engine.submitted[-2:]
    assert first.prompt == second.prompt == list(b"<system>You are<user>x")
    text = BILLING.format("1") + "\nYou are"
    assert client.post("/v1/messages", json=BASE | {"system": text}).status_code == 200
    assert engine.submitted[-1].prompt == first.prompt


def test_blocks_become_messages():
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "I look"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [
                {"type": "text", "text": "1"}, {"type": "text", "text": "2"},
            ]},
            {"type": "tool_result", "tool_use_id": "t2", "content": "no", "is_error": True},
            {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}},
        ]},
    ]  # fmt: skip
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    assert chat_messages(messages, None) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": "I look",
            "reasoning_content": "hm",
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "1\n2"},
        {"role": "tool", "tool_call_id": "t2", "content": "no"},
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any", "disable_parallel_tool_use": True},
         {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "tool", "name": "f"},
         {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"type": "none"}, {"tool_choice": "none"}),
    ],
)  # fmt: skip
def test_tools_become_functions(choice, told):
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    tool = {"name": "f", "description": "d", "input_schema": schema, "type": "custom",
            "cache_control": {"type": "ephemeral"}}  # fmt: skip
    params = validate(MessagesRequest, BASE | {"tools": [tool], "tool_choice": choice})
    body = chat_body(params)
    function = {"name": "f", "description": "d", "parameters": schema}
    assert body["tools"] == [{"type": "function", "function": function}]
    for name, value in told.items():
        assert body[name] == value


def test_thinking_and_output_become_openais_words():
    thinking = {"type": "enabled", "budget_tokens": 1024}
    form = {"type": "json_schema", "schema": {"type": "object"}}
    config = {"effort": "low", "format": form}
    params = validate(MessagesRequest, BASE | {"thinking": thinking, "output_config": config})
    body = chat_body(params)
    assert body["thinking"] == thinking
    assert body["reasoning_effort"] == "low"
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


SCRIPT = [
    Delta(reasoning="let "), Delta(reasoning="me"), Delta(content="I "), Delta(content="do"),
    Delta(tools=(ToolDelta(0, "t1", "f"),)), Delta(tools=(ToolDelta(0, arguments='{"x":'),)),
    Delta(tools=(ToolDelta(0, arguments="1}"), ToolDelta(1, "t2", "g"))),
]  # fmt: skip


def test_thoughts_and_calls_are_blocks(monkeypatch):
    with running(FakeEngine()) as server, scripted(monkeypatch, SCRIPT):
        body = httpx.post(f"{server.url}/v1/messages", json=BASE).json()
        assert body["stop_reason"] == "tool_use"
        assert body["content"] == [
            {"type": "thinking", "thinking": "let me", "signature": ""},
            {"type": "text", "text": "I do"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
        ]
        answer = httpx.post(f"{server.url}/v1/messages", json=BASE | {"stream": True})
        found = events(answer.text)
        told = [(n, d.get("index"), d.get("content_block") or d.get("delta")) for n, d in found]
        assert told[2:-2] == [
            ("content_block_start", 0, {"type": "thinking", "thinking": "", "signature": ""}),
            ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "let "}),
            ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "me"}),
            ("content_block_delta", 0, {"type": "signature_delta", "signature": ""}),
            ("content_block_stop", 0, None),
            ("content_block_start", 1, {"type": "text", "text": ""}),
            ("content_block_delta", 1, {"type": "text_delta", "text": "I "}),
            ("content_block_delta", 1, {"type": "text_delta", "text": "do"}),
            ("content_block_stop", 1, None),
            ("content_block_start", 2, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}),
            ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": '{"x":'}),
            ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": "1}"}),
            ("content_block_stop", 2, None),
            ("content_block_start", 3, {"type": "tool_use", "id": "t2", "name": "g", "input": {}}),
            ("content_block_stop", 3, None),
        ]
        assert found[-2][1]["delta"]["stop_reason"] == "tool_use"


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"max_tokens": None}, "max_tokens"), ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"), ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"), ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
         "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": "x", "nope": 1}]}, "messages[0].nope"),
        ({"system": [{"type": "image"}]}, "system[0].type"), ({"system": 5}, "system"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": "x" * 300}, "stop_sequences[0]"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"), ({"top_k": 1.5}, "top_k"),
        ({"nope": 1}, "nope"), ({"thinking": {"type": "much"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "9"}}, "thinking.budget_tokens"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
    ],
)  # fmt: skip
def test_bad_bodies_are_told_by_name_in_its_shape(http, change, names):
    body = {name: value for name, value in (BASE | change).items() if value is not None}
    answer = http.post("/v1/messages", json=body)
    assert answer.status_code == 400
    told = answer.json()
    assert set(told) == {"type", "error"}
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert f"'{names}'" in told["error"]["message"]


def error_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["type"] == "error"
    return answer.status_code, body["error"]["type"]


def test_other_errors(http):
    assert error_of(http.post("/v1/messages", json=BASE | {"model": "claude"})) == (
        404, "not_found_error",
    )  # fmt: skip
    long = BASE | {"messages": [{"role": "user", "content": "x" * 600}]}
    answer = http.post("/v1/messages", json=long)
    assert error_of(answer) == (400, "invalid_request_error")
    assert "512 tokens" in answer.json()["error"]["message"]
    assert error_of(http.get("/v1/messages"))[0] == 405
    assert error_of(http.post("/v1/messages", content=b"{", headers={
        "content-type": "application/json"})) == (400, "invalid_request_error")  # fmt: skip


def test_keys_loading_and_full_queues():
    with running(FakeEngine(), api_key=("k",)) as server:
        url = f"{server.url}/v1/messages"
        assert error_of(httpx.post(url, json=BASE)) == (401, "authentication_error")
        assert httpx.post(url, json=BASE, headers={"x-api-key": "k"}).status_code == 200
    with running(None) as server:
        answer = httpx.post(f"{server.url}/v1/messages", json=BASE)
        assert error_of(answer) == (503, "overloaded_error")
    engine = FakeEngine(n_slots=1, max_queue=0, step_s=0.1, script=b"x" * 99)
    with running(engine) as server, httpx.Client(base_url=server.url) as client:
        with client.stream("POST", "/v1/messages", json=BASE | {"stream": True}) as first:
            chunks = first.iter_bytes()
            next(chunks)
            answer = httpx.post(f"{server.url}/v1/messages", json=BASE)
            assert error_of(answer) == (429, "rate_limit_error")
            assert answer.headers["retry-after"] == "7"
        eventually(lambda: not engine.n_busy, 5.0)  # who goes away frees the slot


def test_failures_before_and_in_a_stream():
    with running(FakeEngine(fail_at=0)) as server:
        answer = httpx.post(f"{server.url}/v1/messages", json=BASE | {"stream": True})
        assert error_of(answer) == (500, "api_error")
    with running(FakeEngine(fail_at=3, step_s=0.02)) as server:
        answer = httpx.post(f"{server.url}/v1/messages", json=BASE | {"stream": True})
        name, data = events(answer.text)[-1]
        assert (name, data["type"], data["error"]["type"]) == ("error", "error", "api_error")


def test_silence_is_filled_with_pings():
    engine = FakeEngine(script=b"ab", step_s=0.35)
    with running(engine, sse_ping_interval=0.1) as server:
        answer = httpx.post(f"{server.url}/v1/messages", json=BASE | {"stream": True})
        names = [name for name, _ in events(answer.text)]
        assert names.count("ping") > 1


def test_a_deep_input_of_a_call_is_refused_not_a_bug():
    message = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": 5}]}
    with pytest.raises(ApiError) as caught:
        chat_messages([message], None)
    assert caught.value.param == "messages[0].content[0].name"
