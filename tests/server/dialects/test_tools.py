"""Tools and thoughts through every dialect, from a model's text to what its client reads."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.server.dialects.reading import events, lines
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running

PATCH = '<tool_call>\n{"name": "apply_patch", "arguments": {"input": "+a"}}\n</tool_call>'
SCHEMA = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
USER = [{"role": "user", "content": "hi"}]
ARGUMENTS = {"zone": "UTC"}


def test_anthropic(caller):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.Anthropic(base_url=caller.url, api_key="x", max_retries=0)
    body: dict[str, Any] = {
        "model": "fake", "max_tokens": 4000, "messages": list(USER),
        "tools": [{"name": "now", "description": "The time.", "input_schema": SCHEMA}],
    }  # fmt: skip
    message = client.messages.create(**body)
    with client.messages.stream(**body) as stream:
        streamed = stream.get_final_message()
    for one in (message, streamed):
        text, call = one.content
        assert (text.text, one.stop_reason) == ("I look.", "tool_use")
        assert (call.name, call.input) == ("now", ARGUMENTS)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "12:00"}
    body["messages"] += [
        {"role": "assistant", "content": [block.to_dict() for block in streamed.content]},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(**body).stop_reason == "tool_use"
    assert b"12:00" in bytes(i for i in caller.engine.submitted[-1].prompt if i < 256)


def test_a_tool_that_must_be_called_binds_the_request(caller):
    tool = {"name": "now", "input_schema": SCHEMA}
    body = {"model": "fake", "max_tokens": 400, "messages": USER, "tools": [tool]}
    for choice in ({"type": "any"}, {"type": "tool", "name": "now"}):
        answer = httpx.post(f"{caller.url}/v1/messages", json=body | {"tool_choice": choice})
        assert answer.status_code == 200
        assert caller.engine.submitted[-1].constraint is not None
    wrong = {"type": "tool", "name": "nope"}
    answer = httpx.post(f"{caller.url}/v1/messages", json=body | {"tool_choice": wrong})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "tool_choice" in answer.json()["error"]["message"]


def test_responses(caller):
    client = openai.OpenAI(base_url=f"{caller.url}/v1", api_key="x", max_retries=0)
    tool = {"type": "function", "name": "now", "parameters": SCHEMA, "strict": False}
    body: dict[str, Any] = {"model": "fake", "tools": [tool]}
    response = client.responses.create(input="hi", **body)
    with client.responses.stream(input="hi", **body) as stream:
        streamed = stream.get_final_response()
    for one in (response, streamed):
        message, call = one.output
        assert message.content[0].text == "I look."
        assert (call.name, json.loads(call.arguments)) == ("now", ARGUMENTS)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}
    after = client.responses.create(input=[output], previous_response_id=streamed.id, **body)
    assert after.status == "completed"
    assert b"12:00" in bytes(i for i in caller.engine.submitted[-1].prompt if i < 256)


def test_a_custom_tool_is_given_its_text():
    tools = [
        {"type": "custom", "name": "apply_patch", "description": "Edits files."},
        {"type": "web_search"},
    ]
    body = {"input": "hi", "tools": tools, "store": False}
    with running(FakeEngine(script=PATCH.encode(), n_ctx=4096)) as server:
        url = f"{server.url}/v1/responses"
        (call,) = httpx.post(url, json=body).json()["output"]
        assert (call["type"], call["name"], call["input"]) == (
            "custom_tool_call", "apply_patch", "+a",
        )  # fmt: skip
        found = events(httpx.post(url, json=body | {"stream": True}).text)
        deltas = [d["delta"] for n, d in found if n == "response.custom_tool_call_input.delta"]
        assert deltas == ["+a"]


def test_ollama(caller):
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(caller.url)
    function = {"name": "now", "description": "The time.", "parameters": SCHEMA}
    tools = [{"type": "function", "function": function}]
    whole = client.chat("fake", USER, tools=tools)
    parts = list(client.chat("fake", USER, tools=tools, stream=True))
    assert whole.message.content == "I look."
    assert "".join(part.message.content for part in parts) == "I look."
    streamed = [call for part in parts for call in part.message.tool_calls or ()]
    for (call,) in (whole.message.tool_calls, streamed):
        assert (call.function.name, call.function.arguments) == ("now", ARGUMENTS)
    history = [*USER, whole.message, {"role": "tool", "tool_name": "now", "content": "12:00"}]
    assert client.chat("fake", history, tools=tools).done
    assert b"12:00" in bytes(i for i in caller.engine.submitted[-1].prompt if i < 256)


def test_thoughts(thinker):
    body = {"model": "fake", "max_tokens": 400, "messages": USER}
    blocks = httpx.post(f"{thinker.url}/v1/messages", json=body).json()["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert (blocks[0]["thinking"], blocks[1]["text"]) == ("Hm. 5", "Hi.")
    hidden = body | {"thinking": {"type": "adaptive", "display": "omitted"}}
    blocks = httpx.post(f"{thinker.url}/v1/messages", json=hidden).json()["content"]
    assert [block["type"] for block in blocks] == ["text"]
    for display in ("summarized", "updates"):  # Claude Code asks for updates
        shown = body | {"thinking": {"type": "adaptive", "display": display}}
        blocks = httpx.post(f"{thinker.url}/v1/messages", json=shown).json()["content"]
        assert [block["type"] for block in blocks] == ["thinking", "text"]
    response = httpx.post(f"{thinker.url}/v1/responses", json={"input": "hi"}).json()
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["output"][0]["content"][0]["text"] == "Hm. 5"
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    parts = lines(httpx.post(f"{thinker.url}/api/chat", json={"model": "fake", **_user()}).text)
    assert "".join(part["message"].get("thinking", "") for part in parts) == "Hm. 5"
    assert "".join(part["message"]["content"] for part in parts) == "Hi."


def test_a_schema_binds_every_dialect(caller):
    """The fake engine draws by no grammar: that there is one is what can be seen here."""
    form = {"type": "json_schema", "name": "n", "schema": SCHEMA}
    posts = {
        "/v1/responses": {"input": "hi", "text": {"format": form}},
        "/v1/messages": {
            "model": "fake", "max_tokens": 9, "messages": USER,
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        },
        "/api/chat": {"model": "fake", **_user(), "format": SCHEMA},
        "/api/generate": {"model": "fake", "prompt": "hi", "format": "json", "raw": True},
        "/completion": {"prompt": "hi", "json_schema": SCHEMA},
    }  # fmt: skip
    for path, body in posts.items():
        answer = httpx.post(caller.url + path, json=body)
        assert answer.status_code == 200, answer.text
        assert caller.engine.submitted[-1].constraint is not None, path


def _user() -> dict[str, Any]:
    return {"messages": USER}
