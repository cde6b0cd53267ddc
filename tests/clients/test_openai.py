"""OpenAI's own client for Python: chat, streams, tools, parsing, responses, errors."""

from __future__ import annotations

import json

import openai
import pytest
from pydantic import BaseModel

MESSAGES = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(demo):
    return openai.OpenAI(base_url=f"{demo}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def knowing(small):
    return openai.OpenAI(base_url=f"{small}/v1", api_key="none", max_retries=0)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError, match="demo"):
        client.models.retrieve("gpt-4o")


def test_a_stream_says_what_one_answer_says(client):
    options = {"model": "demo", "messages": MESSAGES, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**options)
    stream = client.chat.completions.create(
        **options, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[-1].usage == whole.usage


def test_the_helper_for_streams(client):
    options = {"model": "demo", "messages": MESSAGES, "stop": ["."], "temperature": 0}
    with client.chat.completions.stream(**options) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text
    assert final.choices[0].finish_reason == "stop"


async def test_async(demo):
    async with openai.AsyncOpenAI(base_url=f"{demo}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="demo", messages=MESSAGES, max_tokens=8, stream=True
        )
        assert [chunk async for chunk in stream]


def test_logprobs_of_a_completion(client):
    answer = client.completions.create(model="demo", prompt="Hello", max_tokens=4, logprobs=2)
    choice = answer.choices[0]
    assert len(choice.logprobs.tokens) == answer.usage.completion_tokens
    assert "".join(choice.logprobs.tokens).startswith(choice.text)


def test_every_option_that_asks_for_nothing(client):
    client.chat.completions.create(
        model="demo",
        messages=MESSAGES,
        max_completion_tokens=2,
        frequency_penalty=None,
        logit_bias={},
        logprobs=False,
        metadata={"a": "b"},
        modalities=["text"],
        n=1,
        parallel_tool_calls=True,
        prompt_cache_key="one",
        reasoning_effort="low",
        response_format={"type": "text"},
        safety_identifier="me",
        seed=7,
        service_tier="auto",
        stop=None,
        store=False,
        temperature=1,
        tool_choice="none",
        tools=[WEATHER],
        top_p=1,
        user="me",
        verbosity="medium",
    )


def test_a_forced_tool_streamed_and_not(knowing):
    options = {
        "model": "coder",
        "messages": ASK_WEATHER,
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "temperature": 0,
    }
    whole = knowing.chat.completions.create(**options).choices[0]
    assert whole.finish_reason in ("stop", "tool_calls")
    (call,) = whole.message.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city", "unit"}

    pieces = list(knowing.chat.completions.create(**options, stream=True))
    deltas = [d for c in pieces for d in c.choices[0].delta.tool_calls or ()]
    assert deltas[0].id
    assert deltas[0].function.name == "get_weather"
    assert {delta.index for delta in deltas} == {0}
    text = "".join(delta.function.arguments or "" for delta in deltas)
    assert text == call.function.arguments


def test_parse(knowing):
    answer = knowing.chat.completions.parse(
        model="coder",
        messages=[{"role": "user", "content": "Ada is 36 years old. Give it as JSON."}],
        response_format=Person,
        temperature=0,
    )
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


def test_parse_of_a_tool(knowing):
    answer = knowing.chat.completions.parse(
        model="coder",
        messages=[{"role": "user", "content": "Ada is 36 years old."}],
        tools=[openai.pydantic_function_tool(Person)],
        tool_choice="required",
        temperature=0,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Person)


def test_responses(knowing):
    answer = knowing.responses.create(
        model="coder", input="Say hello.", max_output_tokens=16, temperature=0
    )
    with knowing.responses.stream(
        model="coder", input="Say hello.", max_output_tokens=16, temperature=0
    ) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == answer.output_text == final.output_text
    assert final.status in ("completed", "incomplete")


def test_responses_that_remember(knowing):
    first = knowing.responses.create(model="coder", input="My name is Ada.", max_output_tokens=16)
    second = knowing.responses.create(
        model="coder",
        input="What is my name?",
        previous_response_id=first.id,
        max_output_tokens=24,
        temperature=0,
    )
    assert "Ada" in second.output_text
    assert second.usage.input_tokens > first.usage.total_tokens
    assert knowing.responses.retrieve(first.id).output_text == first.output_text
    knowing.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        knowing.responses.retrieve(first.id)


def test_responses_parse(knowing):
    answer = knowing.responses.parse(
        model="coder", input="Ada is 36 years old.", text_format=Person, temperature=0
    )
    assert answer.output_parsed == Person(name="Ada", age=36)


def test_responses_with_a_tool(knowing):
    tool = {"type": "function", **WEATHER["function"]}
    ask = {"role": "user", "content": "What is the weather in Paris, in celsius?"}
    options = {"model": "coder", "tools": [tool], "temperature": 0}
    first = knowing.responses.create(input=[ask], tool_choice="required", **options)
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments).keys() == {"city", "unit"}
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees, sunny"}
    second = knowing.responses.create(
        input=[ask, *first.output, told], tool_choice="none", max_output_tokens=48, **options
    )
    assert "21" in second.output_text


def test_errors_have_their_types(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="demo", messages=MESSAGES, top_p=7)
    assert caught.value.param == "top_p"
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model="demo", input="x")
    assert 400 <= caught.value.status_code < 600
    assert "embedding" in caught.value.message
