"""/openapi.json and /docs: every route, the schemas that requests meet, answers as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from slotmux.server.openapi import answers, errors
from slotmux.server.openapi.llama import NativeAnswer
from slotmux.server.openapi.ollama import (
    ChatLine,
    GenerateLine,
)
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.schemas.parameters import TABLES, Place
from tests.server.answers.test_tools import FUNCTION, TOOLS, ask
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running
from tests.server.http.endpoints import EXAMPLES, check_as_told, paths, routes

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
TEXT = {"prompt": ["x", "y"], "n": 2}
NATIVE = {"prompt": "x"}
COUNT = {"model": "fake", **CHAT}
MESSAGES = {"max_tokens": 5, **COUNT}
RANK = {"query": "a", "documents": ["b", {"text": "c"}]}
RICH = {"logprobs": True, "top_logprobs": 2, "return_token_ids": True}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with running(FakeEngine()) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    return http.get("/openapi.json").json()


def test_every_route_is_described_and_no_other(document) -> None:
    described = {(way.upper(), path) for path, ways in document["paths"].items() for way in ways}
    assert described == {(method, path.replace(":path", "")) for method, path in routes()}
    ids = [way["operationId"] for ways in document["paths"].values() for way in ways.values()]
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere(document) -> None:
    schemas = document["components"]["schemas"]
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert reference in schemas


def test_bodies_are_those_that_requests_are_checked_by(document) -> None:
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    reference = body["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["messages"]
    dotted = {name for name in schema["properties"] if name.startswith("speculative.")}
    assert set(schema["properties"]) - dotted == set(TABLES[Place.CHAT]) | set(
        ChatRequest.model_fields
    )
    assert schema["properties"]["adaptive_target"]["enum"] == [None, -1]
    assert schema["properties"]["store"]["anyOf"] == [{"type": "boolean"}, {"type": "null"}]


# A request at least of every endpoint that gives JSON: one line for a new one.
ANSWERED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", CHAT | RICH),
    ("POST", "/v1/completions", TEXT),
    ("POST", "/v1/completions", TEXT | RICH | {"logprobs": 2, "top_logprobs": None}),
    ("POST", "/v1/completions", {"prompt": "xy", "echo": True, "logprobs": 1}),
    ("POST", "/v1/completions", {"prompt": "xy", "best_of": 2}),
    ("POST", "/tokenize", {"content": "aß"}),
    ("POST", "/tokenize", {"content": "aß", "with_pieces": True}),
    ("POST", "/detokenize", {"tokens": [97]}),
    ("POST", "/apply-template", CHAT),
    ("GET", "/v1/models", None),
    ("GET", "/models", None),
    ("POST", "/chat/completions", CHAT),
    ("POST", "/completion", NATIVE),
    ("POST", "/completions", NATIVE | {"n_probs": 2, "return_tokens": True}),
    ("POST", "/completion", {"prompt": ["x", "y"]}),
    ("POST", "/completion", NATIVE | {"response_fields": ["content"]}),
    ("POST", "/v1/chat/completions/input_tokens", CHAT),
    ("POST", "/v1/messages", MESSAGES),
    ("POST", "/v1/messages/count_tokens", COUNT),
    ("POST", "/api/chat", COUNT | {"stream": False}),
    ("POST", "/api/chat", {"model": "fake"}),
    ("POST", "/api/generate", {"model": "fake", "prompt": "x", "stream": False}),
    ("POST", "/api/show", {"model": "fake"}),
    ("GET", "/api/tags", None),
    ("GET", "/api/ps", None),
    ("GET", "/api/version", None),
    ("GET", "/v1/models/{model_id:path}", None),
    ("GET", "/version", None),
    ("GET", "/health", None),
    ("GET", "/slots", None),
    ("GET", "/board", None),
    ("GET", "/props", None),
    ("GET", "/livez", None),
    ("GET", "/readyz", None),
    ("GET", "/lora-adapters", None),
    ("GET", "/openapi.json", None),
    ("POST", "/chat/completions/input_tokens", CHAT),
    ("POST", "/v1/responses", {"model": "fake", "input": "hi", "max_output_tokens": 3}),
    ("POST", "/v1/responses/input_tokens", {"model": "fake", "input": "hi"}),
    ("POST", "/v1/embeddings", {"input": ["a", "bc"], "dimensions": 2}),
    ("POST", "/v1/embeddings", {"input": [97, 98], "encoding_format": "base64"}),
    ("POST", "/embedding", {"content": "ab"}),
    ("POST", "/embeddings", {"input": ["a", [97]], "embd_normalize": -1}),
    ("POST", "/api/embed", {"model": "fake", "input": ["a", "b"]}),
    ("POST", "/api/embeddings", {"model": "fake", "prompt": "a"}),
    ("POST", "/v1/rerank", RANK),
    ("POST", "/v1/reranking", RANK),
    ("POST", "/v2/rerank", RANK | {"return_documents": True, "top_n": 1}),
    ("POST", "/rerank", RANK),
    ("POST", "/reranking", RANK),
    ("POST", "/v1/score", {"text_1": "a", "text_2": ["b", "c"]}),
    ("POST", "/score", {"text_1": ["a", "b"], "text_2": ["c", "d"]}),
]  # fmt: skip
# Those that need more than a request and the fake engine; their own tests hold them.
KEPT = "/v1/responses/{response_id}"
ELSEWHERE = {
    "/infill", "/slots/{slot_id}", "/debug/prefix", KEPT, f"{KEPT}/input_items", f"{KEPT}/cancel",
}  # fmt: skip


def test_every_answer_is_held_against_its_description() -> None:
    giving = {e.path for e in paths().endpoints if e.told.answer is not None}
    tried = {path for _, path, _ in ANSWERED}
    assert giving - tried == ELSEWHERE
    assert not tried & ELSEWHERE


@pytest.mark.parametrize(("method", "path", "body"), ANSWERED)
def test_answers_are_as_described(http, method, path, body) -> None:
    answer = http.request(method, EXAMPLES.get(path, path), json=body)
    assert answer.status_code == 200
    check_as_told(method, path, answer.json())


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/chat/completions", CHAT, answers.ChatChunk),
        ("/v1/completions", TEXT, answers.Completion),
    ],
)
@pytest.mark.parametrize("extra", [{}, {"stream_options": {"include_usage": True}}, RICH])
def test_events_are_as_described(http, path, body, kind, extra) -> None:
    if path == "/v1/completions" and "logprobs" in extra:
        extra = {"logprobs": 2, "return_token_ids": True}
    answer = http.post(path, json=body | extra | {"stream": True})
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events.pop() == "[DONE]"
    for event in map(json.loads, events):
        assert TypeAdapter(kind).validate_python(event, strict=True) == event


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["tools", "functions", "thought"])
def test_calls_and_thoughts_are_as_described(caller, thinker, name, stream) -> None:
    tools = {"tools": {"tools": TOOLS}, "functions": {"functions": [FUNCTION]}, "thought": {}}
    server = thinker if name == "thought" else caller
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    answer = ask(server, stream=stream, **tools[name], **usage)
    kind: Any = answers.ChatChunk if stream else answers.ChatCompletion
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    told = [json.loads(line) for line in lines if line != "[DONE]"]
    assert {"tools": "tool_calls", "functions": "function_call", "thought": "reasoning"}[
        name
    ] in answer.text
    for body in told:
        assert TypeAdapter(kind).validate_python(body, strict=True) == body


def test_kept_responses_are_as_described(http) -> None:
    asked = {"input": "hi", "model": "fake", "max_output_tokens": 3}
    made = http.post("/v1/responses", json=asked).json()
    path = f"/v1/responses/{made['id']}"
    check_as_told("POST", "/v1/responses", made)
    check_as_told("GET", KEPT, http.get(path).json())
    check_as_told("GET", f"{KEPT}/input_items", http.get(f"{path}/input_items").json())
    check_as_told("DELETE", KEPT, http.delete(path).json())
    queued = http.post("/v1/responses", json=asked | {"background": True}).json()
    check_as_told("POST", "/v1/responses", queued)
    ended = http.post(f"/v1/responses/{queued['id']}/cancel").json()
    check_as_told("POST", f"{KEPT}/cancel", ended)


def test_native_events_are_as_described(http) -> None:
    answer = http.post("/completion", json=NATIVE | {"stream": True, "n_probs": 1})
    for line in answer.text.splitlines():
        if line:
            event = json.loads(line.removeprefix("data: "))
            assert TypeAdapter(NativeAnswer).validate_python(event, strict=True) == event


@pytest.mark.parametrize(
    ("path", "kind"), [("/api/chat", ChatLine), ("/api/generate", GenerateLine)]
)
def test_lines_are_as_described(http, path, kind) -> None:
    answer = http.post(path, json=COUNT if path == "/api/chat" else {"model": "fake", **NATIVE})
    lines = answer.text.splitlines()
    assert len(lines) > 1
    for line in map(json.loads, lines):
        assert TypeAdapter(kind).validate_python(line, strict=True) == line


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/completions", errors.ErrorAnswer),
        ("/nothing", errors.ErrorAnswer),
        ("/completion", errors.LlamaError),
        ("/embeddings", errors.LlamaError),
        ("/v1/messages", errors.AnthropicError),
        ("/api/chat", errors.OllamaError),
    ],
)
def test_errors_are_as_described(http, document, path, kind) -> None:
    error = http.post(path, json={}).json()
    assert TypeAdapter(kind).validate_python(error, strict=True) == error
    if path in document["paths"]:
        refused = document["paths"][path]["post"]["responses"]["4XX"]
        assert kind.__name__ in str(refused["content"])


def test_a_body_of_several_models_has_the_members_of_all(document) -> None:
    members = document["components"]["schemas"]["InfillRequest"]["properties"]
    assert {"input_prefix", "n_predict", "temperature", "mirostat", "prompt"} <= set(members)
    assert members["n_predict"]["anyOf"][0]["type"] == "integer"


def test_keys_are_described_where_they_are_needed() -> None:
    with running(FakeEngine(), api_key=("k",)) as server:
        assert httpx.get(f"{server.url}/openapi.json").status_code == 401
        key = {"X-Api-Key": "k"}
        paths = httpx.get(f"{server.url}/openapi.json", headers=key).json()["paths"]
    assert "security" in paths["/v1/completions"]["post"]
    assert "security" not in paths["/health"]["get"]


def test_the_page_tells_it_all_and_loads_nothing(http, document) -> None:
    answer = http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in document["paths"]:
        assert path in answer.text
    for name in document["components"]["schemas"]:
        assert f"id=schema-{name}" in answer.text
    assert "<script" not in answer.text
    assert "//" not in answer.text.replace("<!doctype html>", "")
