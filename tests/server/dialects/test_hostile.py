"""Bodies with anything anywhere: a 4xx in the dialect's shape, never a 500; the next is served."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slotmux.server.http.shapes import anthropic_body, llama_body, ollama_body
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.http.endpoints import paths

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
BODIES: dict[str, dict[str, Any]] = {
    "/completion": {
        "prompt": ["a", [1, "b"]], "n_predict": 2, "n_probs": 1, "stop": ["x"], "seed": 1,
        "response_fields": ["content"], "return_tokens": True, "t_max_predict_ms": 5,
    },
    "/v1/messages": {
        "model": "fake", "max_tokens": 2, "stop_sequences": ["q"], "top_k": 3,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "i", "name": "f", "input": {"x": "y"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "i", "content": "r"}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"}, "metadata": {"user_id": "u"},
        "thinking": {"type": "disabled"}, "output_config": {"effort": "low"},
    },
    "/v1/responses": {
        "model": "fake", "instructions": "i", "max_output_tokens": 2, "store": True,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA},
                  {"type": "custom", "name": "g", "format": {"type": "text"}}],
        "tool_choice": "auto", "reasoning": {"effort": "low"}, "metadata": {"a": "b"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    },
    "/api/chat": {
        "model": "fake", "stream": False, "keep_alive": "5m", "think": False,
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "f", "arguments": {"x": "y"}}}]},
            {"role": "tool", "content": "r", "tool_name": "f"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "options": {"num_predict": 2, "temperature": 0.5, "stop": ["q"], "num_ctx": 9},
    },
    "/api/generate": {
        "model": "fake", "prompt": "a", "system": "s", "stream": False,
        "options": {"num_predict": 2, "seed": 1},
    },
}  # fmt: skip
ANYTHING: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 1.5, 1e308, "", "a", "auto", "é\u0000",
    "x" * 5000, [], [None], ["a"], [[]], [{}], [1] * 2000, {}, {"a": 1}, {"type": "text"},
    {"type": {}}, {"type": ["text"]}, {"role": "user"}, {"": None}, [{"type": "function"}],
]  # fmt: skip
N_TRIES = 250


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine(n_ctx=4096, step_s=0.0)) as running_server:
        yield running_server


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body."""
    if path:
        yield path
    items = list(enumerate(value)) if isinstance(value, list) else []
    if isinstance(value, dict):
        items = list(value.items())
    for name, inner in items:
        yield from places(inner, (*path, name))


def changed(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with something else at one or two places, or a member more or less."""
    body = copy.deepcopy(body)
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(list(places(body)))
        parent: Any = body
        for name in path[:-1]:
            parent = parent[name]
        how = rng.random()
        if how < 0.75:
            parent[path[-1]] = copy.deepcopy(rng.choice(ANYTHING))
        elif how < 0.9:
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[rng.choice(("nope", "n", "é", "x" * 99))] = rng.choice(ANYTHING)
    return body


def is_in_shape(path: str, told: Any) -> bool:
    error = told["error"]
    shape = paths().shape_of(path)
    if shape is anthropic_body:
        return told["type"] == "error" and set(error) == {"type", "message"}
    if shape is llama_body:
        return {"code", "message", "type"} <= set(error)
    if shape is ollama_body:
        return isinstance(error, str)
    return {"message", "type", "param", "code"} <= set(error)


@pytest.mark.parametrize("path", BODIES)
def test_anything_anywhere(server, path):
    rng = random.Random(path)
    n_refused = 0
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(N_TRIES):
            body = changed(BODIES[path], rng)
            answer = client.post(path, json=body)
            assert answer.status_code < 500, body
            if answer.status_code != 200:
                n_refused += 1
                assert answer.status_code in (400, 404), body
                assert is_in_shape(path, answer.json()), body
        good = client.post(path, json=BODIES[path])
        assert good.status_code == 200, good.text
    assert n_refused > N_TRIES // 4
