"""Answers that keep to a grammar, over HTTP and the real engine: alone, in a crowd, with drafts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from tests.server.answers.crashers import CRASHERS
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import serving_model

SCHEMA = {
    "type": "object",
    "properties": {
        "first_name": {"type": "string", "maxLength": 4},
        "is_member": {"type": "boolean"},
        "kind": {"enum": ["red", "green", "reddish"]},
        "ages": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99},
                 "minItems": 1, "maxItems": 2},
    },
    "required": ["first_name", "is_member", "kind", "ages"],
    "additionalProperties": False,
}  # fmt: skip
NAMED = {"name": "person", "schema": SCHEMA, "strict": True}
BINARY = 'root ::= "0b" [01]{4,9} ("!" | "?")'


def is_person(text: str) -> bool:
    found = json.loads(text)
    return list(found) == SCHEMA["required"] and found["kind"] in ("red", "green", "reddish")


def is_binary(text: str) -> bool:
    return text.startswith("0b") and text[-1] in "!?" and set(text[2:-1]) <= set("01")


def is_choice(text: str) -> bool:
    return text in ("a", "ab", "abc")


WISHES: dict[str, tuple[dict[str, Any], Any]] = {
    "response_format": (
        {"response_format": {"type": "json_schema", "json_schema": NAMED}}, is_person),
    "not strict": (
        {"response_format": {"type": "json_schema", "json_schema": NAMED | {"strict": False}}},
        is_person),
    "llama-server's schema": (
        {"response_format": {"type": "json_object", "schema": SCHEMA}}, is_person),
    "json_schema": ({"json_schema": SCHEMA}, is_person),
    "guided_json": ({"guided_json": SCHEMA}, is_person),
    "guided_json as text": ({"guided_json": json.dumps(SCHEMA)}, is_person),
    "structured_outputs": ({"structured_outputs": {"json": SCHEMA}}, is_person),
    "grammar": ({"grammar": BINARY}, is_binary),
    "grammar by type": ({"grammar": {"type": "gbnf", "value": BINARY}}, is_binary),
    "guided_grammar": ({"guided_grammar": BINARY}, is_binary),
    "Lark": ({"grammar": '%llguidance {}\nstart: "0b" /[01]{4,9}/ ("!" | "?")'}, is_binary),
    "guided_regex": ({"guided_regex": "0b[01]{4,9}[!?]"}, is_binary),
    "regex by type": ({"grammar": {"type": "regex", "value": "0b[01]{4,9}[!?]"}}, is_binary),
    "guided_choice": ({"guided_choice": ["a", "ab", "abc"]}, is_choice),
    "choice": ({"structured_outputs": {"choice": ["a", "ab", "abc"]}}, is_choice),
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(golden_dir: Path, kernel_cache_dir: Path) -> Iterator[dict[str, RunningServer]]:
    """A hybrid without speculation and with all of it, and a dense model."""
    hybrid = golden_dir / "qwen35" / "model.gguf"
    with (
        serving_model(hybrid, kernel_cache_dir) as plain,
        serving_model(hybrid, kernel_cache_dir, spec=SpecConfig((MTP, NGRAM), 4)) as drafting,
        serving_model(golden_dir / "llama" / "model.gguf", kernel_cache_dir) as dense,
    ):
        yield {"plain": plain, "drafting": drafting, "dense": dense}


def ask(server: RunningServer, **body: Any) -> httpx.Response:
    body = {"prompt": "one two three", "max_tokens": 180, "return_token_ids": True} | body
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)


def told(answer: httpx.Response) -> list[tuple[Any, ...]]:
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    return [(c["text"], c["finish_reason"], c["token_ids"]) for c in choices]


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("model", ["plain", "dense"])
def test_every_wish_under_every_name(servers, model, name) -> None:
    wish, is_right = WISHES[name]
    for temperature in (0, 1):
        ((text, reason, _),) = told(ask(servers[model], temperature=temperature, seed=3, **wish))
        assert reason == "stop"
        assert is_right(text), text


def bodies() -> list[dict[str, Any]]:
    return [
        {"prompt": prompt, "temperature": temperature, "seed": 11, "n": n, **wish}
        for prompt in ("one two three one two", "x")
        for temperature, n in ((0, 1), (1.0, 2))
        for wish in (
            {"json_schema": SCHEMA},
            {"json_schema": SCHEMA, "logprobs": 1},
            {"grammar": BINARY},
            {"guided_choice": ["a", "ab", "abc"]},
            {"json_schema": SCHEMA, "max_tokens": 17},
            {"json_schema": SCHEMA, "stop": ["name"]},
            {"max_tokens": 30, "ignore_eos": True},
        )
    ]


@pytest.mark.parametrize("model", ["plain", "drafting", "dense"])
def test_in_a_crowd_and_with_drafts_each_gets_what_it_gets_alone(servers, model) -> None:
    lonely = "plain" if model == "drafting" else model
    expected = [told(ask(servers[lonely], **body)) for body in bodies()]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda body: told(ask(servers[model], **body)), bodies()))
    assert got == expected


def test_logprobs_change_no_token(servers) -> None:
    plain = told(ask(servers["plain"], json_schema=SCHEMA, temperature=1, seed=5))
    asked = told(ask(servers["plain"], json_schema=SCHEMA, temperature=1, seed=5, logprobs=0))
    assert plain == asked


def test_alternatives_are_told_as_far_as_there_are_any(servers) -> None:
    answer = ask(servers["plain"], guided_choice=["a", "b"], logprobs=5, temperature=0)
    logprobs = answer.json()["choices"][0]["logprobs"]
    assert set(logprobs["top_logprobs"][0]) == {"a", "b"}
    forced = ask(servers["plain"], guided_choice=["only"], logprobs=5)
    logprobs = forced.json()["choices"][0]["logprobs"]
    assert {len(top) for top in logprobs["top_logprobs"]} == {1}
    assert set(logprobs["token_logprobs"]) == {0.0}


def test_streamed_is_not_streamed(servers) -> None:
    wish = {"json_schema": SCHEMA, "temperature": 0.8, "seed": 2}
    ((text, reason, _),) = told(ask(servers["plain"], **wish))
    client = openai.OpenAI(base_url=f"{servers['plain'].url}/v1", api_key="x", max_retries=0)
    with client:
        chunks = list(
            client.completions.create(
                model="tiny", prompt="one two three", max_tokens=180, stream=True,
                temperature=0.8, seed=2, extra_body={"json_schema": SCHEMA},
            )
        )  # fmt: skip
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == reason


def test_the_openai_client_parses(servers) -> None:
    class Point(BaseModel):
        x: int = Field(ge=0, le=9)
        label: str = Field(max_length=3)

    client = openai.OpenAI(base_url=f"{servers['plain'].url}/v1", api_key="x", max_retries=0)
    with client:
        answer = client.chat.completions.parse(
            model="tiny", messages=[{"role": "user", "content": "hi"}], response_format=Point
        )
    assert isinstance(answer.choices[0].message.parsed, Point)


DIALECTS = {
    "/completion": ({"prompt": "x", "n_predict": 180, "json_schema": SCHEMA}, ["content"]),
    "/api/generate": (
        {"model": "tiny", "prompt": "x", "stream": False, "raw": True, "format": SCHEMA,
         "options": {"num_predict": 180}},
        ["response"],
    ),
    "/v1/responses": (
        {"input": "x", "max_output_tokens": 180,
         "text": {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA}}},
        ["output", 0, "content", 0, "text"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", DIALECTS)
def test_every_dialect_keeps_to_it(servers, path) -> None:
    body, place = DIALECTS[path]
    answer = httpx.post(f"{servers['plain'].url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    text = answer.json()
    for key in place:
        text = text[key]
    assert is_person(text)


REFUSED = {
    "response_format.type": {"response_format": {"type": "xml"}},
    "response_format.json_schema": {"response_format": {"type": "json_schema"}},
    "response_format.json_schema.schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a"}}
    },
    "response_format.json_schema.schema.properties.a.not": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"properties": {"a": {"not": {}}}}},
        }
    },
    "response_format.json_schema.strict": {
        "response_format": {"type": "json_schema", "json_schema": NAMED | {"strict": "yes"}}
    },
    "json_schema.anyOf[1]": {
        "json_schema": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?!a)"}]}
    },
    "grammar": {"grammar": "root ::= x"},
    "grammar.type": {"grammar": {"type": "llguidance", "value": "{}"}},
    "grammar.value": {"grammar": {"type": "regex", "value": "["}},
    "guided_choice": {"guided_choice": ["a"], "guided_regex": "a"},
    "structured_outputs.structural_tag": {"structured_outputs": {"structural_tag": "{}"}},
    "structured_outputs.regex": {"structured_outputs": {"regex": "(?=a)"}},
    "structured_outputs": {"structured_outputs": {"regex": "a", "choice": ["b"]}},
}


@pytest.mark.parametrize("param", REFUSED)
def test_what_is_wrong_is_refused_with_its_place(servers, param) -> None:
    answer = ask(servers["dense"], **REFUSED[param])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


NOTHING = [
    {"response_format": {"type": "text"}}, {"response_format": None}, {"grammar": ""},
    {"guided_choice": []}, {"structured_outputs": {}}, {"guided_json_object": False},
    {"structured_outputs": {"regex": None, "disable_any_whitespace": False}},
]  # fmt: skip


@pytest.mark.parametrize("wish", NOTHING, ids=[json.dumps(wish) for wish in NOTHING])
def test_asking_for_nothing_constrains_nothing(servers, wish) -> None:
    free = told(ask(servers["dense"], max_tokens=9, temperature=0))
    assert told(ask(servers["dense"], max_tokens=9, temperature=0, **wish)) == free


@pytest.mark.parametrize("name", CRASHERS)
def test_published_crashers_are_served_or_refused_and_the_server_lives(servers, name) -> None:
    server = servers["dense"]
    answer = ask(server, max_tokens=6, **CRASHERS[name])
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        error = answer.json()["error"]
        member = next(iter(CRASHERS[name]))
        assert error["code"] == "grammar_failed" or error["param"].startswith(member)
    ((text, _, _),) = told(ask(server, guided_choice=["fine"]))
    assert text == "fine"
    assert httpx.get(f"{server.url}/livez").status_code == 200
