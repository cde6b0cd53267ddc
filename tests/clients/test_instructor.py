"""instructor, in every mode that an OpenAI-compatible or Anthropic-compatible server can have."""

from __future__ import annotations

from collections.abc import Iterable

import anthropic
import instructor
import openai
import pytest
from instructor import Mode
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


ADA = Person(name="Ada", age=36)
ASK = [{"role": "user", "content": "Ada is 36 years old."}]
CHAT_MODES = [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON]
STILL = {"model": "coder", "temperature": 0, "max_retries": 0}


@pytest.fixture(scope="module")
def plain(small):
    return openai.OpenAI(base_url=f"{small}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("mode", CHAT_MODES, ids=lambda mode: mode.name)
def test_chat_modes(plain, mode):
    client = instructor.from_openai(plain, mode=mode)
    answer = client.chat.completions.create(response_model=Person, messages=ASK, **STILL)
    assert answer.model_dump() == ADA.model_dump()


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON_SCHEMA], ids=lambda mode: mode.name)
def test_a_partial_model_is_filled_as_it_streams(plain, mode):
    client = instructor.from_openai(plain, mode=mode)
    *_, last = client.chat.completions.create_partial(response_model=Person, messages=ASK, **STILL)
    assert last.model_dump() == ADA.model_dump()


def test_parallel_tools(plain):
    client = instructor.from_openai(plain, mode=Mode.PARALLEL_TOOLS)
    options = STILL | {"tool_choice": "required"}
    found = client.chat.completions.create(response_model=Iterable[Person], messages=ASK, **options)
    people = list(found)
    assert people
    assert all(isinstance(person, Person) for person in people)


@pytest.mark.parametrize(
    "mode",
    [Mode.RESPONSES_TOOLS, Mode.RESPONSES_TOOLS_WITH_INBUILT_TOOLS],
    ids=lambda mode: mode.name,
)
def test_responses(plain, mode):
    client = instructor.from_openai(plain, mode=mode)
    answer = client.responses.create(response_model=Person, input=ASK, **STILL)
    assert answer.model_dump() == ADA.model_dump()


@pytest.mark.parametrize(
    "mode", [Mode.ANTHROPIC_TOOLS, Mode.ANTHROPIC_JSON], ids=lambda mode: mode.name
)
def test_anthropic(small, mode):
    plain = anthropic.Anthropic(base_url=small, api_key="none", max_retries=0)
    client = instructor.from_anthropic(plain, mode=mode)
    answer = client.messages.create(
        response_model=Person, messages=ASK, model="coder", max_tokens=128, max_retries=0
    )
    assert isinstance(answer, Person)
