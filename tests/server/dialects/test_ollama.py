"""Ollama's API: lines or one object, options, models, and errors that are strings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slotmux.server.answers.delta import Delta, ToolDelta
from slotmux.server.dialects.ollama.messages import chat_messages
from slotmux.server.dialects.ollama.schema import OllamaChat
from slotmux.server.schemas.base import validate
from tests.server.dialects.reading import lines
from tests.server.dialects.scripted import scripted
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with, running
from tests.server.http.sockets import eventually

TEXT = "Hello wörld."
USER = [{"role": "user", "content": "x"}]
CHAT: dict[str, Any] = {"model": "fake", "messages": USER}
N_PROMPT = len("<user>x")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[FakeEngine, httpx.Client]]:
    engine = FakeEngine()
    loaded = loaded_with(
        engine, file_name="Fake-1B-Q4_K_M.gguf", architecture="llama", n_params=1_200_000_000,
        n_bytes=77, n_embd=64, chat_template="{{ tools }}", aliases=("other",),
    )  # fmt: skip
    with running(loaded) as running_server, httpx.Client(base_url=running_server.url) as client:
        yield engine, client


def check_counts(last: dict[str, Any], n_generated: int) -> None:
    assert (last["done"], last["prompt_eval_count"], last["eval_count"]) == (
        True, N_PROMPT, n_generated,
    )  # fmt: skip
    assert last["prompt_eval_duration"] == 2_000_000
    assert last["eval_duration"] == 3_000_000
    assert last["total_duration"] == 6_000_000


def test_a_chat_streams_lines_unless_told_otherwise(http):
    answer = http.post("/api/chat", json=CHAT)
    assert answer.headers["content-type"] == "application/x-ndjson"
    parts = lines(answer.text)
    assert "".join(part["message"]["content"] for part in parts) == TEXT
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(part["model"] == "fake" and part["created_at"].endswith("Z") for part in parts)
    assert parts[-1]["done_reason"] == "stop"
    check_counts(parts[-1], len(TEXT.encode()))


def test_a_whole_chat(http):
    body = http.post("/api/chat", json=CHAT | {"stream": False}).json()
    assert body["message"] == {"role": "assistant", "content": TEXT}
    check_counts(body, len(TEXT.encode()))


def test_generate(server):
    engine, client = server
    body = {"model": "fake:latest", "prompt": "x", "system": "s", "keep_alive": "5m"}
    parts = lines(client.post("/api/generate", json=body).text)
    assert "".join(part["response"] for part in parts) == TEXT
    assert engine.submitted[-1].prompt == list(b"<system>s<user>x")
    whole = client.post("/api/generate", json={"model": "fake", "prompt": "x", "stream": False})
    assert whole.json()["response"] == TEXT
    raw = {"model": "fake", "prompt": "x", "raw": True, "stream": False}
    assert client.post("/api/generate", json=raw).json()["response"] == TEXT
    assert engine.submitted[-1].prompt == list(b"x")


def test_options_reach_the_engine(server):
    engine, client = server
    options = {
        "num_predict": 2, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.1, "seed": 9,
        "stop": ["a"], "repeat_penalty": 1.1, "num_ctx": 4096, "num_gpu": 1, "use_mmap": True,
        "repeat_last_n": 5, "num_thread": 2,
    }  # fmt: skip
    answer = client.post("/api/chat", json=CHAT | {"options": options, "stream": False}).json()
    assert (answer["message"]["content"], answer["done_reason"]) == ("He", "length")
    request = engine.submitted[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed) == (0.5, 7, 9)
    assert (sampling.min_p, sampling.repeat_penalty, sampling.repeat_last_n) == (0.1, 1.1, 5)
    assert request.stop == ("a",)
    for unlimited in (-1, -2):
        body = CHAT | {"options": {"num_predict": unlimited}}
        assert client.post("/api/chat", json=body).status_code == 200
        assert engine.submitted[-1].max_tokens == -1


def test_without_a_prompt_it_tells_that_the_model_is_loaded(http):
    chat = http.post("/api/chat", json={"model": "fake"}).json()
    assert (chat["message"]["content"], chat["done_reason"]) == ("", "load")
    generate = http.post("/api/generate", json={"model": "fake", "keep_alive": -1}).json()
    assert (generate["response"], generate["done"]) == ("", True)


def test_messages_get_ids_for_their_calls():
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    other = {"function": {"name": "g", "arguments": {}}}
    told = chat_messages(
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call, other]},
            {"role": "tool", "content": "2", "tool_name": "g"},
            {"role": "tool", "content": "1"},
        ]
    )
    calls = told[1]["tool_calls"]
    assert [c["function"] for c in calls] == [
        {"name": "f", "arguments": '{"x":1}'}, {"name": "g", "arguments": "{}"},
    ]  # fmt: skip
    assert told[1]["reasoning_content"] == "hm"
    assert told[2]["tool_call_id"] == calls[1]["id"]
    assert told[3]["tool_call_id"] == calls[0]["id"]


def test_format_think_and_tools_become_openais_words():
    schema = {"type": "object"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    params = validate(OllamaChat, CHAT | {"format": schema, "think": "low", "tools": tools})
    body = params.chat_body()
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert (body["reasoning_effort"], body["tools"]) == ("low", tools)
    body = validate(OllamaChat, CHAT | {"format": "json", "think": False}).chat_body()
    assert body["response_format"] == {"type": "json_object"}
    assert body["enable_thinking"] is False


SCRIPT = [
    Delta(reasoning="let "), Delta(reasoning="me"), Delta(content="I "), Delta(content="do"),
    Delta(tools=(ToolDelta(0, "t1", "f"),)), Delta(tools=(ToolDelta(0, arguments='{"x":'),)),
    Delta(tools=(ToolDelta(0, arguments="1}"), ToolDelta(1, "t2", "g"))),
]  # fmt: skip
CALLS = [
    {"id": "t1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}},
    {"id": "t2", "function": {"index": 1, "name": "g", "arguments": {}}},
]


def test_thoughts_and_calls(monkeypatch):
    with running(FakeEngine()) as server, scripted(monkeypatch, SCRIPT):
        body = httpx.post(f"{server.url}/api/chat", json=CHAT | {"stream": False}).json()
        assert body["message"] == {
            "role": "assistant", "content": "I do", "thinking": "let me", "tool_calls": CALLS,
        }  # fmt: skip
        parts = lines(httpx.post(f"{server.url}/api/chat", json=CHAT).text)
        messages = [part["message"] for part in parts]
        assert "".join(m.get("thinking", "") for m in messages) == "let me"
        assert "".join(m["content"] for m in messages) == "I do"
        assert [m["tool_calls"] for m in messages if "tool_calls" in m] == [CALLS[:1], CALLS[1:]]
        assert parts[-1]["done_reason"] == "stop"


def test_its_command_line_finds_a_server(http):
    assert http.head("/").status_code == 200
    assert http.get("/").text == "slotmux is running"


def test_models(http):
    assert set(http.get("/api/version").json()) == {"version", "server"}
    tags = http.get("/api/tags").json()["models"]
    assert [model["name"] for model in tags] == ["fake", "other"]
    details = tags[0]["details"]
    assert (details["parameter_size"], details["quantization_level"]) == ("1.2B", "Q4_K_M")
    shown = http.post("/api/show", json={"model": "fake"}).json()
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["llama.context_length"] == 512
    assert shown["capabilities"] == ["completion", "tools"]
    assert http.post("/api/show", json={"name": "fake:latest"}).status_code == 200
    ps = http.get("/api/ps").json()["models"][0]
    assert (ps["name"], ps["context_length"]) == ("fake", 512)


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("chat", {"messages": USER}, "'model'"), ("chat", {"model": 5}, "'model'"),
        ("chat", CHAT | {"nope": 1}, "'nope'"),
        ("chat", CHAT | {"options": {"nope": 1}}, "'options.nope'"),
        ("chat", CHAT | {"options": {"temperature": "hot"}}, "'options.temperature'"),
        ("chat", CHAT | {"options": {"num_predict": 0.5}}, "'options.num_predict'"),
        ("chat", CHAT | {"options": {"num_ctx": "big"}}, "'options.num_ctx'"),
        ("chat", CHAT | {"options": 5}, "'options'"),
        ("chat", CHAT | {"stream": "yes"}, "'stream'"),
        ("chat", CHAT | {"format": "xml"}, "'format'"),
        ("chat", CHAT | {"think": "much"}, "'think'"),
        ("chat", {"model": "fake", "messages": "x"}, "'messages'"),
        ("chat", {"model": "fake", "messages": [{"role": "cat", "content": ""}]},
         "'messages[0].role'"),
        ("chat", {"model": "fake", "messages": [{"role": "user", "images": ["eA=="]}]},
         "'messages[0].images'"),
        ("generate", {"model": "fake", "prompt": 5}, "'prompt'"),
        ("generate", {"model": "fake", "prompt": "x", "images": ["eA=="]}, "'images'"),
        ("generate", {"model": "fake", "prompt": "x", "context": [1]}, "'context'"),
        ("generate", {"model": "fake", "prompt": "x", "template": "t"}, "'template'"),
        ("show", {}, "'model'"),
    ],
)  # fmt: skip
def test_bad_bodies_are_told_by_name_in_its_shape(http, path, body, names):
    answer = http.post(f"/api/{path}", json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert names in answer.json()["error"]


def test_other_errors(http):
    for path in ("chat", "show", "generate"):
        answer = http.post(f"/api/{path}", json={"model": "llama3"})
        assert answer.status_code == 404
        assert isinstance(answer.json()["error"], str)
    long = {"model": "fake", "messages": [{"role": "user", "content": "x" * 600}]}
    answer = http.post("/api/chat", json=long)
    assert answer.status_code == 400
    assert "512 tokens" in answer.json()["error"]
    for path in ("pull", "push", "create", "copy"):
        answer = http.post(f"/api/{path}", json={"model": "fake"})
        assert answer.status_code == 501
        assert isinstance(answer.json()["error"], str)


def test_full_queues_and_who_goes_away():
    engine = FakeEngine(n_slots=1, max_queue=0, step_s=0.1, script=b"x" * 99)
    with running(engine) as server, httpx.Client(base_url=server.url) as client:
        with client.stream("POST", "/api/chat", json=CHAT) as first:
            chunks = first.iter_bytes()
            next(chunks)
            answer = httpx.post(f"{server.url}/api/chat", json=CHAT)
            assert answer.status_code == 429
            assert isinstance(answer.json()["error"], str)
        eventually(lambda: not engine.n_busy, 5.0)


def test_failures_before_and_in_a_stream():
    with running(FakeEngine(fail_at=0)) as server:
        answer = httpx.post(f"{server.url}/api/chat", json=CHAT)
        assert answer.status_code == 500
        assert isinstance(answer.json()["error"], str)
    with running(FakeEngine(fail_at=3, step_s=0.02)) as server:
        answer = httpx.post(f"{server.url}/api/chat", json=CHAT)
        assert answer.status_code == 200
        assert isinstance(lines(answer.text)[-1]["error"], str)


def test_silence_stays_silent():
    """A line could not be skipped by clients."""
    engine = FakeEngine(script=b"ab", step_s=0.35)
    with running(engine, sse_ping_interval=0.1) as server:
        assert len(lines(httpx.post(f"{server.url}/api/chat", json=CHAT).text)) == 3
