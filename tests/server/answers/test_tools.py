"""Tools and thoughts through the whole app: asked for, answered, refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.server.conftest import CALL, THOUGHT
from tests.server.fake_model import RunningServer

PARAMETERS = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
FUNCTION = {"name": "now", "description": "The time.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]
MESSAGES = [{"role": "user", "content": "hi"}]


def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)


def ask(server: RunningServer, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json={"messages": MESSAGES} | body)


def test_a_call_is_told_as_openai_tells_it(caller):
    answer = client(caller).chat.completions.create(model="fake", messages=MESSAGES, tools=TOOLS)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look."
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "now")
    assert json.loads(call.function.arguments) == {"zone": "UTC"}
    assert call.id.startswith("call_")


def test_a_call_streams_in_pieces(caller):
    chunks = list(
        client(caller).chat.completions.create(
            model="fake", messages=MESSAGES, tools=TOOLS, stream=True
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == "I look."
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    first, *rest = pieces
    assert (first.index, first.type, first.function.name) == (0, "function", "now")
    assert first.id.startswith("call_")
    assert first.function.arguments == ""
    assert len(rest) > 3
    assert all(piece.id is None and piece.function.name is None for piece in rest)
    text = "".join(piece.function.arguments for piece in pieces)
    assert json.loads(text) == {"zone": "UTC"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_pieces_have_their_logprobs_and_token_ids(caller):
    body = {"tools": TOOLS, "stream": True, "logprobs": True, "return_token_ids": True}
    lines = ask(caller, **body).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    ids = [i for choice in choices for i in choice.get("token_ids", ())]
    assert ids == list(CALL.encode())
    logprobs = [entry for c in choices if c["logprobs"] for entry in c["logprobs"]["content"]]
    assert len(logprobs) == len(ids)


def test_functions_as_they_once_were(caller):
    choice = ask(caller, functions=[FUNCTION]).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"]["name"] == "now"
    assert "tool_calls" not in choice["message"]
    text = ask(caller, functions=[FUNCTION], stream=True).text
    assert '"function_call":{"name":"now","arguments":""}' in text
    assert '"finish_reason":"function_call"' in text


@pytest.mark.parametrize("body", [
    {}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": TOOLS, "parse_tool_calls": False}
])  # fmt: skip
def test_without_tools_a_call_is_a_text(caller, body):
    choice = ask(caller, **body).json()["choices"][0]
    assert choice["message"]["content"] == CALL
    assert choice["finish_reason"] == "stop"


def test_a_template_without_tools_is_told_of_them_in_words(caller):
    history = [
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "now", "arguments": "{\"zone\": \"UTC\"}"}}
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
    ]  # fmt: skip
    answer = httpx.post(f"{caller.url}/apply-template", json={"messages": history, "tools": TOOLS})
    prompt = answer.json()["prompt"]
    assert prompt.startswith("<system>You can call functions")
    assert '"name": "now"' in prompt
    assert '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>' in prompt
    assert prompt.endswith("<user><tool_response>\n12:00\n</tool_response>")


UNKNOWN = {
    "not": {"not": {"const": "x"}},
    "format": {"format": "zork"},
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]},
    "pattern": {"pattern": r"^(?!\.)[a-z.]+$"},  # as zod writes e-mail addresses
}


def asked_with(zone: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    schema = PARAMETERS | {"properties": {"zone": zone}}
    return [{"type": "function", "function": FUNCTION | {"parameters": schema} | options}]


def test_what_is_passed_over_in_a_schema_is_told(caller):
    plain = ask(caller, tools=TOOLS)
    assert "x-unenforced-keywords" not in plain.headers
    for name, part in UNKNOWN.items():
        for stream in (False, True):
            answer = ask(caller, tools=asked_with({"type": "string"} | part), stream=stream)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-unenforced-keywords"] == name
        assert caller.engine.submitted[-1].constraint is not None
    mixed = asked_with({"type": "string"} | UNKNOWN["not"] | UNKNOWN["pattern"])
    for _ in range(2):  # compiled, and from what is kept
        assert ask(caller, tools=mixed).headers["x-unenforced-keywords"] == "not, pattern"


@pytest.mark.parametrize("name", UNKNOWN)
def test_with_strict_it_is_refused(caller, name):
    answer = ask(caller, tools=asked_with({"type": "string"} | UNKNOWN[name], strict=True))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("tools[0].function.parameters")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}])
def test_what_must_be_called_is_constrained(caller, choice):
    engine = caller.engine
    assert ask(caller, tools=TOOLS, tool_choice=choice).status_code == 200
    assert engine.submitted[-1].constraint is not None


@pytest.mark.parametrize(("body", "param"), [
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "then"}}},
     "tool_choice"),
    ({"tools": TOOLS, "functions": [FUNCTION]}, "functions"),
    ({"tools": TOOLS + TOOLS}, "tools"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": FUNCTION | {"parameters": 1}}]},
     "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": FUNCTION | {
        "parameters": {"type": "object", "properties": {"zone": {"type": "zone"}}}}}]},
     "tools[0].function.parameters.properties.zone.type"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [
        {"function": {"name": "f"}}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f",
      "arguments": 1}}]}]}, "messages[0].tool_calls[0].function.arguments"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ({"thinking_token_budget": 5, "reasoning_budget_tokens": 6}, "thinking_token_budget"),
    ({"thinking": {"type": "maybe"}}, "thinking.type"),
    ({"reasoning": {"max_tokens": "x"}}, "reasoning.max_tokens"),
    ({"enable_thinking": True, "reasoning_effort": "none"}, "enable_thinking"),
])  # fmt: skip
def test_bad_wishes_are_named(caller, body, param):
    answer = ask(caller, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_thoughts_are_told_apart(thinker):
    answer = ask(thinker).json()
    message = answer["choices"][0]["message"]
    assert message["content"] == "Hi."
    assert message["reasoning_content"] == message["reasoning"] == "Hm. 5"
    details = answer["usage"]["completion_tokens_details"]
    assert details == {"reasoning_tokens": len("Hm. 5</think>")}


def test_thoughts_stream_apart(thinker):
    text = ask(thinker, stream=True, stream_options={"include_usage": True}).text
    chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm. 5"
    assert "".join(delta.get("content", "") for delta in deltas) == "Hi."
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(("body", "content", "reasoning"), [
    ({"reasoning_format": "none"}, THOUGHT, None),
    ({"reasoning_format": "deepseek-legacy"}, THOUGHT, "Hm. 5"),
    ({"include_reasoning": False}, "Hi.", None),
    ({"reasoning": {"exclude": True}}, "Hi.", None),
])  # fmt: skip
def test_where_thoughts_go(thinker, body, content, reasoning):
    message = ask(thinker, **body).json()["choices"][0]["message"]
    assert message["content"] == content
    assert message.get("reasoning_content") == reasoning


def test_templates_are_told_how_to_think(thinker):
    body = {"messages": MESSAGES, "reasoning_effort": "low", "enable_thinking": True}
    prompt = httpx.post(f"{thinker.url}/apply-template", json=body).json()["prompt"]
    assert "[reasoning_effort=low]" in prompt
    assert "[enable_thinking=True]" in prompt


def test_a_budget_needs_an_end_that_can_be_forced(thinker):
    answer = ask(thinker, thinking_token_budget=4)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "thinking_token_budget"
