"""pydantic-ai: outputs in each of its ways, tools, over chat and responses."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

ASK = "Ada is 36 years old. Give me name and age."


class Person(BaseModel):
    name: str
    age: int


def over(kind, url):
    """A model of pydantic-ai that speaks to the server in one of two dialects."""
    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    profile = OpenAIModelProfile(supports_json_schema_output=True)
    model = OpenAIChatModel if kind == "chat" else OpenAIResponsesModel
    return model("coder", provider=provider, profile=profile)


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("way", [ToolOutput, PromptedOutput])
async def test_outputs(small, kind, way):
    agent = Agent(over(kind, small), output_type=way(Person), retries=2)
    found = await agent.run(ASK, model_settings={"temperature": 0, "max_tokens": 128})
    assert isinstance(found.output, Person)


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_native_output(small, kind):
    agent = Agent(over(kind, small), output_type=NativeOutput(Person))
    found = await agent.run(ASK, model_settings={"temperature": 0})
    assert found.output == Person(name="Ada", age=36)


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_a_tool_is_called_and_its_result_told(coder, kind):
    told = "When a tool has answered, tell the user what it said. Never call it twice."
    agent = Agent(over(kind, coder), system_prompt=told)
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "21 degrees, sunny"

    found = await agent.run(
        "Call get_weather for Paris, then tell me in a sentence what it said.",
        model_settings={"temperature": 0, "max_tokens": 128},
    )
    assert asked
    assert "21" in found.output


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_streams(small, kind):
    agent = Agent(over(kind, small))
    settings = {"temperature": 0, "max_tokens": 16}
    async with agent.run_stream("Say hello.", model_settings=settings) as run:
        pieces = [piece async for piece in run.stream_text(delta=True)]
    assert "".join(pieces)
