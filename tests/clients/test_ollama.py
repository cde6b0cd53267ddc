"""Ollama's own client: chat, generate, formats, tools, what it asks about models."""

from __future__ import annotations

import json

import ollama
import pytest
from pydantic import BaseModel

USER = [{"role": "user", "content": "Say hello."}]
ASK = "Call get_weather for Paris, then tell me in a sentence what it said."
TOLD = "When a tool has answered, tell the user what it said. Never call it twice."
STILL = {"temperature": 0, "num_predict": 24}


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Name of the city.
    """
    return f"It is sunny in {city}."


@pytest.fixture(scope="module")
def client(demo):
    return ollama.Client(demo)


@pytest.fixture(scope="module")
def knowing(small):
    return ollama.Client(small)


def test_a_stream_says_what_one_answer_says(client):
    whole = client.chat("demo", USER, options=STILL)
    pieces = list(client.chat("demo", USER, options=STILL, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert pieces[-1].eval_count == whole.eval_count
    text = client.generate("demo", "Hello", options=STILL)
    parts = client.generate("demo", "Hello", options=STILL, stream=True)
    assert "".join(part.response for part in parts) == text.response


async def test_async(demo):
    stream = await ollama.AsyncClient(demo).chat("demo", USER, options=STILL, stream=True)
    assert [part async for part in stream][-1].done


def test_what_there_is(client):
    assert [model.model for model in client.list().models] == ["demo"]
    assert client.ps().models[0].model == "demo"
    assert client.show("demo").capabilities
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("llama3", USER)
    assert caught.value.status_code == 404


def test_a_format(knowing):
    told = [{"role": "user", "content": "Ada is 36 years old. Answer in JSON."}]
    answer = knowing.chat("coder", told, format=Person.model_json_schema(), options=STILL)
    assert Person.model_validate_json(answer.message.content) == Person(name="Ada", age=36)
    answer = knowing.chat("coder", told, format="json", options={"temperature": 0})
    assert isinstance(json.loads(answer.message.content), dict)


def test_a_tool_given_as_a_function(coder):
    """Ollama has no tool_choice: the model has to want it."""
    client = ollama.Client(coder)
    ask = {"role": "user", "content": ASK}
    first = client.chat("coder", [ask], tools=[get_weather], options={"temperature": 0})
    (call,) = first.message.tool_calls
    assert call.function.name == "get_weather"
    told = get_weather(**call.function.arguments)
    history = [
        {"role": "system", "content": TOLD},
        ask,
        first.message,
        {"role": "tool", "content": told, "tool_name": "get_weather"},
    ]
    second = client.chat("coder", history, tools=[get_weather], options={"temperature": 0})
    assert "sunny" in second.message.content
