"""First requests of coding agents, as they sent them (agents/, by tests/clients/record.py): each
is answered as a stream of its dialect, and a call of one of its tools comes back as one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.dialects.reading import events
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running

FOLDER = Path(__file__).parent / "agents"
AGENTS = sorted(path.stem for path in FOLDER.glob("*.json"))
N_CTX = 65536
NAME = "close_agent"


def recorded(agent: str) -> dict[str, Any]:
    """What it sent, asking for the model that there is."""
    sent = json.loads((FOLDER / f"{agent}.json").read_text())
    sent["body"]["model"] = "fake"
    return sent


def play(server: RunningServer, sent: dict[str, Any]) -> httpx.Response:
    return httpx.request(
        sent["method"], server.url + sent["path"], headers=sent["headers"], json=sent["body"]
    )


@pytest.fixture(scope="module")
def speaker() -> Iterator[RunningServer]:
    with running(FakeEngine(n_ctx=N_CTX)) as server:
        yield server


def said(response: httpx.Response) -> str:
    """All text of a stream, whatever the dialect."""
    found = ""
    for name, data in events(response.text):
        if name == "response.output_text.delta":
            found += data["delta"]
        elif name == "content_block_delta":
            found += data["delta"]["text"]
        elif not name and data != "[DONE]":
            found += "".join(c["delta"].get("content") or "" for c in data["choices"])
    return found


@pytest.mark.parametrize("agent", AGENTS)
def test_it_is_answered(speaker, agent):
    response = play(speaker, recorded(agent))
    assert response.status_code == 200, response.text
    assert said(response) == "Hello wörld."


def calling(name: str) -> FakeEngine:
    call = json.dumps({"name": name, "arguments": {"target": "one"}})
    return FakeEngine(script=f"<tool_call>\n{call}\n</tool_call>".encode(), n_ctx=N_CTX)


@pytest.mark.parametrize("agent", ["opencode", "qwen_code"])
def test_a_call_of_a_tool_of_the_chat(agent):
    sent = recorded(agent)
    name = sent["body"]["tools"][0]["function"]["name"]
    with running(calling(name)) as server:
        told = [data for _, data in events(play(server, sent).text) if data != "[DONE]"]
    calls = [c for d in told for x in d["choices"] for c in x["delta"].get("tool_calls") or ()]
    assert calls[0]["function"]["name"] == name
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == {"target": "one"}


def test_a_call_for_claude_code():
    sent = recorded("claude_code")
    name = sent["body"]["tools"][0]["name"]
    with running(calling(name)) as server:
        told = events(play(server, sent).text)
    (start,) = [d for n, d in told if n == "content_block_start"]
    assert start["content_block"]["name"] == name
    parts = [d["delta"]["partial_json"] for n, d in told if n == "content_block_delta"]
    assert json.loads("".join(parts)) == {"target": "one"}


def test_a_call_in_a_namespace_for_codex():
    """The model knows one name; the client is told both of its parts, and gives them back."""
    sent = recorded("codex")
    (space,) = [tool["name"] for tool in sent["body"]["tools"] if tool["type"] == "namespace"]
    with running(calling(f"{space}__{NAME}")) as server:
        told = dict(events(play(server, sent).text))
        call = told["response.output_item.done"]["item"]
        assert (call["type"], call["namespace"], call["name"]) == ("function_call", space, NAME)
        assert json.loads(call["arguments"]) == {"target": "one"}
        done = told["response.function_call_arguments.done"]
        assert (done["namespace"], done["name"]) == (space, NAME)
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "closed"}
        sent["body"]["input"] += [call, output]
        assert play(server, sent).status_code == 200
        sent["body"]["tool_choice"] = {"type": "function", "namespace": space, "name": NAME}
        assert play(server, sent).status_code == 200
        sent["body"]["tool_choice"]["namespace"] = "other"
        assert play(server, sent).json()["error"]["param"] == "tool_choice"
