"""OpenAI's Responses API: objects, events in their order, items, what is kept, and errors."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from slotmux.server.answers.delta import Delta, ToolDelta
from slotmux.server.dialects.responses.items import chat_messages
from slotmux.server.dialects.responses.schema import ResponsesRequest
from slotmux.server.dialects.responses.store import Kept, ResponseStore
from slotmux.server.dialects.responses.tools import Names
from slotmux.server.http.errors import ApiError
from slotmux.server.schemas.base import validate
from tests.server.dialects.reading import events
from tests.server.dialects.scripted import scripted
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running
from tests.server.http.sockets import eventually

TEXT = "Hello wörld."
BASE: dict[str, Any] = {"model": "fake", "input": "x"}
N_PROMPT = len("<user>x")


def test_a_whole_response(http):
    body = http.post("/v1/responses", json=BASE | {"temperature": 0.5}).json()
    assert body["id"].startswith("resp_")
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", "fake")
    assert body["completed_at"] >= body["created_at"]
    message = body["output"][0]
    assert (message["type"], message["role"], message["status"]) == (
        "message", "assistant", "completed",
    )  # fmt: skip
    part = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    assert message["content"] == [part]
    n_generated = len(TEXT.encode())
    assert body["usage"] == {
        "input_tokens": N_PROMPT,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": n_generated,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": N_PROMPT + n_generated,
    }
    assert (body["temperature"], body["store"], body["error"]) == (0.5, True, None)


def test_a_stream_numbers_its_events(http):
    answer = http.post("/v1/responses", json=BASE | {"stream": True})
    found = events(answer.text)
    names = [name for name, _ in found]
    assert names[:4] == [
        "response.created", "response.in_progress", "response.output_item.added",
        "response.content_part.added",
    ]  # fmt: skip
    assert names[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    assert set(names[4:-4]) == {"response.output_text.delta"}
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    assert all(data["type"] == name for name, data in found)
    assert "".join(data["delta"] for _, data in found[4:-4]) == TEXT
    last = found[-1][1]["response"]
    assert last["output"] == [found[-2][1]["item"]]
    assert last["usage"]["output_tokens"] == len(TEXT.encode())
    assert found[0][1]["response"]["status"] == "in_progress"
    assert found[0][1]["response"]["id"] == last["id"]
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_makes_it_incomplete(http, stream):
    answer = http.post("/v1/responses", json=BASE | {"max_output_tokens": 2, "stream": stream})
    if stream:
        name, data = events(answer.text)[-1]
        assert name == "response.incomplete"
        body = data["response"]
    else:
        body = answer.json()
    assert (body["status"], body["incomplete_details"]) == (
        "incomplete", {"reason": "max_output_tokens"},
    )  # fmt: skip
    assert body["output"][0]["status"] == "incomplete"
    assert body["output"][0]["content"][0]["text"] == "He"


def test_items_become_messages():
    items = [
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "zzz"},
        {"type": "reasoning", "summary": [], "content": [
            {"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "status": "completed", "id": "m", "content": [
            {"type": "output_text", "text": "I look", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "x"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "+a"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [
            {"type": "input_text", "text": "2"}]},
    ]  # fmt: skip
    told = chat_messages(items, "i")
    assert told[:3] == [
        {"role": "system", "content": "i"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert told[3]["reasoning_content"] == "hm"
    assert told[3]["content"] == "I look"
    assert [(c["id"], c["function"]["arguments"]) for c in told[3]["tool_calls"]] == [
        ("c1", "{}"), ("c2", '{"input":"+a"}'),
    ]  # fmt: skip
    assert told[4:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
    ]


CODEX_TOOLS = [
    {"type": "function", "name": "shell", "description": "d", "strict": False,
     "parameters": {"type": "object", "properties": {"command": {"type": "array"}}}},
    {"type": "custom", "name": "apply_patch", "description": "Edits files.",
     "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.*/"}},
    {"type": "web_search", "external_web_access": False},
]  # fmt: skip


def test_what_codex_sends_becomes_openais_older_words():
    body = {
        "model": "fake", "instructions": "You are Codex.", "tools": CODEX_TOOLS,
        "input": [{"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "x"}]}],
        "tool_choice": "auto", "parallel_tool_calls": False, "store": False, "stream": True,
        "reasoning": {"effort": "medium", "summary": "auto"}, "prompt_cache_key": "k",
        "include": ["reasoning.encrypted_content"], "text": {"verbosity": "low"},
        "client_metadata": {"a": "b"},
    }  # fmt: skip
    params = validate(ResponsesRequest, body)
    chat = params.chat_body(body["input"])
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["shell", "apply_patch"]
    assert "start: /.*/" in chat["tools"][1]["function"]["description"]
    assert (chat["reasoning_effort"], chat["verbosity"]) == ("medium", "low")
    assert (chat["tool_choice"], chat["parallel_tool_calls"]) == ("auto", False)
    assert chat["prompt_cache_key"] == "k"
    assert not params.is_stored


def test_a_schema_becomes_a_response_format():
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    params = validate(ResponsesRequest, BASE | {"text": {"format": form}})
    assert params.chat_body([{"role": "user", "content": "x"}])["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }


SCRIPT = [
    Delta(reasoning="let "), Delta(reasoning="me"), Delta(content="I "), Delta(content="do"),
    Delta(tools=(ToolDelta(0, "t1", "f"),)), Delta(tools=(ToolDelta(0, arguments='{"x":'),)),
    Delta(tools=(ToolDelta(0, arguments="1}"), ToolDelta(1, "t2", "patch"))),
    Delta(tools=(ToolDelta(1, arguments='{"input":'),)),
    Delta(tools=(ToolDelta(1, arguments='"+a"}'),)),
]  # fmt: skip


def test_thoughts_and_calls_are_items(monkeypatch):
    with running(FakeEngine()) as server, scripted(monkeypatch, SCRIPT):
        # tools themselves are checked above; here the writer is told which one is custom
        monkeypatch.setattr(
            "slotmux.server.dialects.responses.routes.chat_tools",
            lambda tools: ([], Names(frozenset({"patch"}), {})),
        )
        url = f"{server.url}/v1/responses"
        output = httpx.post(url, json=BASE).json()["output"]
        assert [item["type"] for item in output] == [
            "reasoning", "message", "function_call", "custom_tool_call",
        ]  # fmt: skip
        assert output[0]["content"] == [{"type": "reasoning_text", "text": "let me"}]
        assert (output[2]["call_id"], output[2]["arguments"]) == ("t1", '{"x":1}')
        assert (output[3]["call_id"], output[3]["input"]) == ("t2", "+a")
        found = events(httpx.post(url, json=BASE | {"stream": True}).text)
        names = [name.removeprefix("response.") for name, _ in found]
        assert names == [
            "created", "in_progress",
            "output_item.added", "content_part.added", "reasoning_text.delta",
            "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
            "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
            "output_text.done", "content_part.done", "output_item.done",
            "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
            "function_call_arguments.done", "output_item.done",
            "output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done",
            "output_item.done",
            "completed",
        ]  # fmt: skip
        streamed = found[-1][1]["response"]["output"]
        for one, other in zip(output, streamed, strict=True):
            assert one | {"id": ""} == other | {"id": ""}
        done = [data["item"] for name, data in found if name == "response.output_item.done"]
        assert done == streamed
        places = [data["output_index"] for _, data in found if "output_index" in data]
        assert places == sorted(places)


def test_what_is_kept_can_be_continued_read_and_deleted(server):
    engine, client = server
    first = client.post("/v1/responses", json=BASE | {"instructions": "i"}).json()
    second = client.post(
        "/v1/responses", json={"input": "y", "previous_response_id": first["id"]}
    ).json()
    # instructions are not taken over: so OpenAI has it
    assert engine.submitted[-1].prompt == list(f"<user>x<assistant>{TEXT}<user>y".encode())
    assert second["previous_response_id"] == first["id"]
    third = client.post("/v1/responses", json={"input": "z", "previous_response_id": second["id"]})
    assert engine.submitted[-1].prompt == list(
        f"<user>x<assistant>{TEXT}<user>y<assistant>{TEXT}<user>z".encode()
    )
    assert third.status_code == 200
    path = f"/v1/responses/{second['id']}"
    assert client.get(path).json() == second
    items = client.get(f"{path}/input_items?order=asc").json()
    assert [item["role"] for item in items["data"]] == ["user", "assistant", "user"]
    newest = client.get(f"{path}/input_items").json()["data"][0]
    assert newest["content"] == "y"
    assert client.post(f"{path}/cancel").status_code == 400
    assert client.delete(path).json() == {
        "id": second["id"], "object": "response", "deleted": True,
    }  # fmt: skip
    for method, url in (("GET", path), ("DELETE", path), ("GET", f"{path}/input_items")):
        assert client.request(method, url).status_code == 404


def test_items_may_be_referred_to(server):
    """As the Vercel AI SDK tells history."""
    engine, client = server
    first = client.post("/v1/responses", json=BASE).json()
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    items = [{"role": "user", "content": "x"}, reference, {"role": "user", "content": "y"}]
    assert client.post("/v1/responses", json={"input": items}).status_code == 200
    assert engine.submitted[-1].prompt == list(f"<user>x<assistant>{TEXT}<user>y".encode())
    assert client.delete(f"/v1/responses/{first['id']}").status_code == 200
    answer = client.post("/v1/responses", json={"input": items})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[1].id"


def test_streams_are_kept_too_and_store_false_is_not(http):
    answer = http.post("/v1/responses", json=BASE | {"stream": True})
    response = events(answer.text)[-1][1]["response"]
    assert http.get(f"/v1/responses/{response['id']}").json() == response
    unkept = http.post("/v1/responses", json=BASE | {"store": False}).json()
    assert unkept["store"] is False
    assert http.get(f"/v1/responses/{unkept['id']}").status_code == 404
    body = {"input": "y", "previous_response_id": unkept["id"]}
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "previous_response_not_found"


def test_keys_do_not_see_each_others_responses():
    with running(FakeEngine(), api_key=("a", "b")) as server:
        mine, other = ({"x-api-key": key} for key in ("a", "b"))
        body = httpx.post(f"{server.url}/v1/responses", json=BASE, headers=mine).json()
        path = f"{server.url}/v1/responses/{body['id']}"
        assert httpx.get(path).status_code == 401
        assert httpx.get(path, headers=other).status_code == 404
        assert httpx.delete(path, headers=other).status_code == 404
        assert httpx.get(path, headers=mine).status_code == 200


def test_the_store_is_bounded():
    store = ResponseStore(max_responses=3, max_bytes=100)
    for number in range(5):
        store.put(str(number), Kept("", b"x" * 10, b"", b""))
    assert len(store) == 3
    with pytest.raises(ApiError):
        store.get("1", "")
    store.put("big", Kept("", b"x" * 95, b"", b""))
    assert len(store) == 1
    store.put("huge", Kept("", b"x" * 101, b"", b""))
    assert len(store) == 1
    store.delete("big", "")
    assert len(store) == 0


def test_counting(http):
    body = {"input": "x", "instructions": "i"}
    answer = http.post("/v1/responses/input_tokens", json=body).json()
    assert answer == {"object": "response.input_tokens", "input_tokens": len("<system>i<user>x")}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": 5}, "input"), ({"input": []}, "input"), ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].id"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"role": "cat", "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
         "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
         "input[0].call_id"),
        ({"max_output_tokens": "5"}, "max_output_tokens"), ({"temperature": 101}, "temperature"),
        ({"nope": 1}, "nope"), ({"background": "yes"}, "background"),
        ({"tools": [{"type": "local_shell"}]}, "tools[0].type"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"text": {"format": 5}}, "text.format"), ({"reasoning": {"nope": 1}}, "reasoning.nope"),
        ({"truncation": "auto"}, "truncation"), ({"instructions": 5}, "instructions"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"conversation": "x"}, "conversation"), ({"prompt": {"id": "x"}}, "prompt"),
    ],
)  # fmt: skip
def test_bad_bodies_are_told_by_name(http, change, param):
    answer = http.post("/v1/responses", json=BASE | change)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param


def test_other_errors(http):
    assert http.post("/v1/responses", json=BASE | {"model": "gpt-9"}).status_code == 404
    answer = http.post("/v1/responses", json={"input": "x" * 600})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["param"] == "input"
    assert http.post("/v1/responses", json={"model": "fake"}).status_code == 400


def test_full_queues_and_who_goes_away():
    engine = FakeEngine(n_slots=1, max_queue=0, step_s=0.1, script=b"x" * 99)
    with running(engine) as server, httpx.Client(base_url=server.url) as client:
        with client.stream("POST", "/v1/responses", json=BASE | {"stream": True}) as first:
            chunks = first.iter_bytes()
            next(chunks)
            assert httpx.post(f"{server.url}/v1/responses", json=BASE).status_code == 429
        eventually(lambda: not engine.n_busy, 5.0)


def test_failures_before_and_in_a_stream():
    with running(FakeEngine(fail_at=0)) as server:
        answer = httpx.post(f"{server.url}/v1/responses", json=BASE | {"stream": True})
        assert answer.status_code == 500
    with running(FakeEngine(fail_at=3, step_s=0.02)) as server:
        answer = httpx.post(f"{server.url}/v1/responses", json=BASE | {"stream": True})
        name, data = events(answer.text)[-1]
        assert name == "response.failed"
        assert data["response"]["status"] == "failed"
        assert data["response"]["error"]["code"] == "server_error"


def test_the_openai_client():
    with running(FakeEngine()) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0)
        response = client.responses.create(model="fake", input="x")
        assert response.output_text == TEXT
        assert client.responses.retrieve(response.id).output_text == TEXT
        with client.responses.stream(model="fake", input="x") as stream:
            deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
            assert "".join(deltas) == TEXT
            assert stream.get_final_response().output_text == TEXT
        items = client.responses.input_items.list(response.id)
        assert items.data[0].type == "message"
        assert client.responses.delete(response.id) is None
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="fake", input="x", temperature=101)
