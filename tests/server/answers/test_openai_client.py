"""The real openai client against a real server on a loopback port."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import openai
import pytest

from slotmux.server.schemas.parameters import TABLES, Place
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running

MESSAGES = [{"role": "user", "content": "hi"}]
TEXT = "Hello wörld."


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine()) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_chat_answers_with_text_usage_and_timings(client):
    answer = client.chat.completions.create(model="fake", messages=MESSAGES)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == len(TEXT.encode())
    assert answer.usage.prompt_tokens == len("<user>hi")
    assert answer.usage.total_tokens == len("<user>hi") + len(TEXT.encode())
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert answer.model_extra["timings"]["cache_n"] == 3
    assert answer.model_extra["timings"]["prompt_n"] == len("<user>hi") - 3


def test_chat_stream_gives_the_same_text_then_usage(client):
    chunks = list(
        client.chat.completions.create(
            model="fake", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1])
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == TEXT
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(TEXT.encode())
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_choices_are_all_told_apart(client):
    stream = client.chat.completions.create(model="fake", messages=MESSAGES, n=3, stream=True)
    texts = {0: "", 1: "", 2: ""}
    finishes = []
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes += [choice.finish_reason] if choice.finish_reason else []
    assert texts == dict.fromkeys(range(3), TEXT)
    assert finishes == ["stop"] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_chat_logprobs(client, stream):
    answer = client.chat.completions.create(
        model="fake", messages=MESSAGES, logprobs=True, top_logprobs=2, stream=stream
    )
    if stream:
        given = [c.choices[0].logprobs for c in answer if c.choices[0].logprobs is not None]
        entries = [entry for logprobs in given for entry in logprobs.content]
    else:
        entries = answer.choices[0].logprobs.content
    assert bytes(b for entry in entries for b in entry.bytes).decode() == TEXT
    assert [top.token for top in entries[0].top_logprobs] == ["a", "b"]
    assert entries[0].logprob == -0.25


def test_completion_logprobs_and_offsets(client):
    answer = client.completions.create(model="fake", prompt="x", logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs.tokens[:7] == list("Hello w")
    assert logprobs.tokens[7:9] == ["bytes:\\xc3", "bytes:\\xb6"]
    assert logprobs.text_offset == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11]
    assert logprobs.top_logprobs[0] == {"a": -0.5, "H": -0.25}


@pytest.mark.parametrize(
    ("prompt", "echoes"),
    [
        ("ab", ["ab"]),
        ([97, 98], ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([[97], [98, 99]], ["a", "bc"]),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_form_of_prompt_is_echoed_in_order(client, prompt, echoes, stream):
    answer = client.completions.create(
        model="fake", prompt=prompt, echo=True, n=2, max_tokens=3, stream=stream
    )
    texts = dict.fromkeys(range(2 * len(echoes)), "")
    for part in answer if stream else [answer]:
        for choice in part.choices:
            texts[choice.index] += choice.text
    assert list(texts.values()) == [f"{echo}Hel" for echo in echoes for _ in range(2)]


def test_length_is_told_as_the_reason(client):
    answer = client.completions.create(model="fake", prompt="x", max_tokens=4)
    assert answer.choices[0].text == "Hell"
    assert answer.choices[0].finish_reason == "length"


def test_token_ids_are_returned_on_request(client):
    answer = client.chat.completions.create(
        model="fake", messages=MESSAGES, extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].model_extra["token_ids"] == list(TEXT.encode())
    assert answer.model_extra["prompt_token_ids"] == list(b"<user>hi")


def test_every_parameter_reaches_the_engine(client, server):
    client.chat.completions.create(
        model="fake", messages=MESSAGES, temperature=0.5, top_p=0.9, frequency_penalty=0.1,
        presence_penalty=0.2, logit_bias={"5": -100, "6": 1.5}, seed=7, stop=["END"], n=2,
        max_completion_tokens=9, user="u", metadata={"a": "b"},
        extra_body={
            "top_k": 40, "min_p": 0.05, "typical_p": 0.8, "repetition_penalty": 1.1,
            "repeat_last_n": -1, "min_tokens": 2, "stop_token_ids": [3], "ignore_eos": True,
            "include_stop_str_in_output": True, "cache_prompt": False, "cache_salt": "s",
            "id_slot": 1, "chat_template_kwargs": {"enable_thinking": False},
        },
    )  # fmt: skip
    request = server.engine.submitted[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.min_p) == (0.5, 0.9, 0.05)
    assert (sampling.top_k, sampling.typical_p, sampling.repeat_penalty) == (40, 0.8, 1.1)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.1, 0.2)
    assert (sampling.repeat_last_n, sampling.seed, sampling.n_logprobs) == (-1, 7, -1)
    assert sampling.logit_bias == ((5, -100.0), (6, 1.5))
    assert (request.max_tokens, request.min_tokens, request.n) == (9, 2, 2)
    assert (request.stop, request.stop_token_ids) == (("END",), frozenset({3}))
    assert request.ignore_eos
    assert request.include_stop
    assert not request.cache_prompt
    assert (request.cache_salt, request.slot_id) == ("/s", 1)
    assert bytes(request.prompt) == b"<user>hi[enable_thinking=False]"


def test_defaults_are_llama_servers(client, server):
    client.completions.create(model="fake", prompt="x")
    first = server.engine.submitted[-1]
    client.completions.create(model="fake", prompt="x")
    second = server.engine.submitted[-1]
    sampling = first.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.8, 0.95, 40)
    assert (sampling.min_p, sampling.typical_p, sampling.repeat_penalty) == (0.05, 1.0, 1.0)
    assert (first.max_tokens, first.n, first.slot_id) == (16, 1, -1)
    assert sampling.seed != second.sampling.seed
    client.chat.completions.create(model="fake", messages=MESSAGES)
    assert server.engine.submitted[-1].max_tokens == -1


def test_content_parts_and_developer_role(client, server):
    client.chat.completions.create(
        model="fake",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "b")]},
        ],
    )
    assert bytes(server.engine.submitted[-1].prompt) == b"<system>be brief<user>ab"


def test_an_answer_can_be_sent_back(client):
    answer = client.chat.completions.create(model="fake", messages=MESSAGES)
    history = [*MESSAGES, answer.choices[0].message.model_dump(), *MESSAGES]
    assert client.chat.completions.create(model="fake", messages=history).choices


def test_models(client):
    assert [model.id for model in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").owned_by == "slotmux"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"


def test_errors_become_the_clients_exceptions(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fake", messages=MESSAGES, temperature=101)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert caught.value.code == "model_not_found"


async def test_async_client_streams_side_by_side(server):
    import asyncio

    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:

        async def one() -> str:
            stream = await client.chat.completions.create(
                model="fake", messages=MESSAGES, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*(one() for _ in range(8))) == [TEXT] * 8


@pytest.mark.parametrize(("path", "place"), [("chat", Place.CHAT), ("text", Place.COMPLETION)])
def test_every_parameter_of_the_client_is_known(client, path, place):
    create = client.chat.completions.create if path == "chat" else client.completions.create
    names = set(inspect.signature(create).parameters)
    of_the_client = {"extra_headers", "extra_query", "extra_body", "timeout"}
    assert names - of_the_client <= set(TABLES[place])


def test_what_clients_add_of_their_own_accord(client):
    answer = client.chat.completions.create(
        model="default",
        messages=MESSAGES,
        max_completion_tokens=2,
        store=True,
        metadata={"app": "x"},
        service_tier="flex",
        prediction={"type": "content", "content": "Hello"},
        verbosity="low",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        safety_identifier="s",
        modalities=["text"],
        tools=[],
        tool_choice="auto",
        extra_body={"session_id": "s", "mirostat": 0, "use_beam_search": False, "keep_alive": -1},
    )
    assert answer.model == "fake"
    assert answer.choices[0].finish_reason == "length"
