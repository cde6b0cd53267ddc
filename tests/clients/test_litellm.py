"""litellm, as a gateway uses it: chat over its generic OpenAI, Anthropic and Ollama providers."""

from __future__ import annotations

import json

import litellm
import pytest

MESSAGES = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "greet",
        "parameters": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
        },
    },
}
PLACES = {"openai": "{}/v1", "hosted_vllm": "{}/v1", "anthropic": "{}", "ollama_chat": "{}"}


def options(url, provider):
    place = PLACES[provider].format(url)
    return {"model": f"{provider}/demo", "api_base": place, "api_key": "none", "max_tokens": 16}


@pytest.mark.parametrize("provider", PLACES)
def test_chat(demo, provider):
    given = options(demo, provider) | {"messages": MESSAGES, "temperature": 0}
    whole = litellm.completion(**given)
    pieces = list(litellm.completion(**given, stream=True))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content
    assert text
    assert whole.usage.completion_tokens > 0


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
def test_a_forced_tool(demo, provider):
    given = options(demo, provider) | {"max_tokens": 64, "temperature": 0}
    answer = litellm.completion(messages=MESSAGES, tools=[TOOL], tool_choice="required", **given)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "greet"
    assert answer.choices[0].finish_reason in ("tool_calls", "length")
    if answer.choices[0].finish_reason == "tool_calls":
        assert isinstance(json.loads(call.function.arguments)["name"], str)


async def test_responses(demo):
    answer = await litellm.aresponses(
        model="openai/demo", input="Hello", api_base=f"{demo}/v1", api_key="none",
        max_output_tokens=16,
    )  # fmt: skip
    assert answer.output


def test_errors_have_their_types(demo):
    given = options(demo, "openai") | {"messages": MESSAGES}
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**given, top_p=7)
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**given | {"model": "openai/other"})
