"""Ten calls of a tool by a small model: every one has valid arguments."""

from __future__ import annotations

import json

import openai
import pytest
from jsonschema import validate

CITIES = ["Paris", "Oslo", "Rome", "Lima", "Cairo", "Delhi", "Tokyo", "Quito", "Accra", "Perth"]
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "days", "unit"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "The weather of the next days in a city.",
            "parameters": PARAMETERS,
        },
    }
]
SYSTEM = {"role": "system", "content": "You are a weather bot. Call forecast for each question."}


@pytest.fixture(scope="module")
def client(coder):
    return openai.OpenAI(base_url=f"{coder}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_ten_questions_of_their_own(client, stream):
    """The model wants the tool by itself."""
    for index in range(len(CITIES)):
        message = _ask(client, [SYSTEM, _question(index)], stream=stream, tool_choice="auto")
        _check(message, index)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_ten_calls_in_one_conversation(client, stream):
    history: list = [SYSTEM]
    for index in range(len(CITIES)):
        history.append(_question(index))
        message = _ask(client, history, stream=stream, tool_choice="required")
        history.append(message.to_dict())
        for call in _check(message, index):
            told = f"{10 + index} degrees, sunny"
            history.append({"role": "tool", "tool_call_id": call.id, "content": told})


def _question(index):
    ask = f"How will the weather be in {CITIES[index]} in the next {index + 2} days, in celsius?"
    return {"role": "user", "content": ask}


def _check(message, index):
    assert message.tool_calls, message.content
    for call in message.tool_calls:
        validate(json.loads(call.function.arguments), PARAMETERS)
    assert CITIES[index].lower() in message.tool_calls[0].function.arguments.lower()
    return message.tool_calls


def _ask(client, history, *, stream, tool_choice):
    options = {"model": "coder", "messages": history, "tools": TOOLS, "tool_choice": tool_choice}
    options |= {"temperature": 0, "max_tokens": 160}
    if not stream:
        return client.chat.completions.create(**options).choices[0].message
    with client.chat.completions.stream(**options) as pieces:
        return pieces.get_final_completion().choices[0].message
