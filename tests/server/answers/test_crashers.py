"""The published crashers through every door that takes a specification, in that door's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.answers.crashers import CRASHERS
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import serving_model

Wish = dict[str, Any]
N_CTX = 2048
USER = {"messages": [{"role": "user", "content": "hi"}]}
FEW = {"max_tokens": 4}
SCHEMAS = {name: wish["json_schema"] for name, wish in CRASHERS.items() if "json_schema" in wish}


def _chat(schema: Any) -> Wish:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return {**USER, **FEW, "response_format": form}


def _chat_tool(schema: Any) -> Wish:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    return {**USER, **FEW, "tools": [tool], "tool_choice": "required"}


def _responses(schema: Any) -> Wish:
    form = {"type": "json_schema", "name": "a", "schema": schema}
    return {"input": "hi", "max_output_tokens": 4, "text": {"format": form}}


def _responses_tool(schema: Any) -> Wish:
    tool = {"type": "function", "name": "f", "parameters": schema}
    return {"input": "hi", "max_output_tokens": 4, "tools": [tool], "tool_choice": "required"}


def _messages(schema: Any) -> Wish:
    form = {"type": "json_schema", "schema": schema}
    return {**USER, **FEW, "model": "tiny", "output_config": {"format": form}}


def _messages_tool(schema: Any) -> Wish:
    tool = {"name": "f", "input_schema": schema}
    return {**USER, **FEW, "model": "tiny", "tools": [tool], "tool_choice": {"type": "any"}}


def _ollama(schema: Any) -> Wish:
    options = {"num_predict": 4}
    return {**USER, "model": "tiny", "stream": False, "format": schema, "options": options}


def _ollama_text(schema: Any) -> Wish:
    body = _ollama(schema)
    del body["messages"]
    return body | {"prompt": "hi"}


# Door, what it is told, the member that its error names if it names one.
DOORS: dict[str, tuple[str, Callable[[Any], Wish], str]] = {
    "chat": ("/v1/chat/completions", _chat, "response_format.json_schema.schema"),
    "tools of chat": ("/v1/chat/completions", _chat_tool, "tools[0].function.parameters"),
    "responses": ("/v1/responses", _responses, "text.format"),
    "tools of responses": ("/v1/responses", _responses_tool, "tools[0].parameters"),
    "messages": ("/v1/messages", _messages, "output_config.format"),
    "tools of messages": ("/v1/messages", _messages_tool, "tools[0].input_schema"),
    "ollama chat": ("/api/chat", _ollama, "format"),
    "ollama generate": ("/api/generate", _ollama_text, "format"),
}
NATIVE = {
    "completion": ("/completion", {"prompt": "hi", "n_predict": 4}),
    "chat, by any name": ("/v1/chat/completions", {**USER, **FEW}),
}


@pytest.fixture(scope="module")
def server(golden_dir: Path, kernel_cache_dir: Path) -> Iterator[RunningServer]:
    model = golden_dir / "llama" / "model.gguf"
    with serving_model(model, kernel_cache_dir, n_cells=4 * N_CTX, n_ctx=N_CTX) as one:
        yield one


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("door", DOORS)
def test_a_schema(server, door, name) -> None:
    path, worded, member = DOORS[door]
    _check(server, path, worded(SCHEMAS[name]), member)


@pytest.mark.parametrize("name", CRASHERS)
@pytest.mark.parametrize("door", NATIVE)
def test_any_wish(server, door, name) -> None:
    path, body = NATIVE[door]
    _check(server, path, body | CRASHERS[name], next(iter(CRASHERS[name])))


def test_the_next_is_served(server) -> None:
    wish = {"guided_choice": ["fine"]}
    answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "hi", **wish})
    assert answer.json()["choices"][0]["text"] == "fine"


def _check(server: RunningServer, path: str, body: Wish, member: str) -> None:
    """Served, or refused in the dialect's shape with the member's name. The schema of a tool is
    also told to the model: a long one may be more than fits."""
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert answer.status_code in (200, 400), answer.text
    told = answer.json()
    if answer.status_code == 200:
        assert "error" not in told or told["error"] is None
        return
    error = told["error"]
    message = error if isinstance(error, str) else error["message"]
    if path == "/v1/messages":
        assert (told["type"], error["type"]) == ("error", "invalid_request_error")
    elif path == "/completion":
        assert (error["code"], error["type"]) == (400, "invalid_request_error")
    elif path.startswith("/v1/") and error["code"] != "context_length_exceeded":
        assert error["code"] == "grammar_failed" or error["param"].startswith(member)
    if "param" not in error:
        assert any(word in message for word in (member, "grammar", "context")), message
