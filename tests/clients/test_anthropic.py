"""Anthropic's own client: messages, streams, tools, thoughts, counts, errors."""

from __future__ import annotations

import anthropic
import pytest

USER = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
ASK = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture(scope="module")
def client(demo):
    return anthropic.Anthropic(base_url=demo, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def knowing(small):
    return anthropic.Anthropic(base_url=small, api_key="none", max_retries=0)


def test_a_stream_says_what_one_answer_says(client):
    options = {"model": "demo", "messages": USER, "max_tokens": 24}
    options |= {"extra_body": {"temperature": 0}}
    whole = client.messages.create(**options)
    with client.messages.stream(**options) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.stop_reason == whole.stop_reason


async def test_async(demo):
    async with anthropic.AsyncAnthropic(base_url=demo, api_key="none") as client:
        events = await client.messages.create(
            model="demo", messages=USER, max_tokens=8, stream=True
        )
        kinds = [event.type async for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_models_and_counts(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    count = client.messages.count_tokens(model="demo", messages=USER, system="Be short.")
    message = client.messages.create(model="demo", messages=USER, system="Be short.", max_tokens=1)
    assert count.input_tokens == message.usage.input_tokens


def test_a_tool_and_what_it_gave(knowing):
    options = {"model": "coder", "tools": [TOOL], "max_tokens": 96}
    options |= {"extra_body": {"temperature": 0}}
    first = knowing.messages.create(
        messages=[ASK], tool_choice={"type": "tool", "name": "get_weather"}, **options
    )
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert isinstance(call.input["city"], str)
    told = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees, sunny"}
    history = [
        ASK,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [told]},
    ]
    second = knowing.messages.create(messages=history, tool_choice={"type": "none"}, **options)
    assert second.content[0].type == "text"
    assert "21" in second.content[0].text


def test_a_tool_is_streamed_as_it_is_told_whole(knowing):
    options = {"model": "coder", "tools": [TOOL], "max_tokens": 96, "messages": [ASK]}
    options |= {"tool_choice": {"type": "any"}, "extra_body": {"temperature": 0}}
    whole = knowing.messages.create(**options)
    with knowing.messages.stream(**options) as stream:
        parts = "".join(event.partial_json for event in stream if event.type == "input_json")
        final = stream.get_final_message()
    assert parts
    assert [b.input for b in final.content if b.type == "tool_use"] == [
        b.input for b in whole.content if b.type == "tool_use"
    ]


def test_errors_have_their_types(client):
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=4, messages=USER)
    with pytest.raises(anthropic.BadRequestError, match="top_p"):
        client.messages.create(model="demo", max_tokens=4, messages=USER, extra_body={"top_p": 7})
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="demo", max_tokens=-4, messages=USER)
