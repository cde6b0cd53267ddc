"""One rule for parameters: honoured, advice, or refused by name unless it asks for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from slotmux.server.http.errors import ApiError
from slotmux.server.schemas.base import StrictModel, validate
from slotmux.server.schemas.chat import ChatRequest, Message
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.generation import StreamOptions
from slotmux.server.schemas.parameters import TABLES, Place
from tools.parameters_page import PAGE, page

BODIES: dict[Place, tuple[type[StrictModel], dict[str, Any]]] = {
    Place.CHAT: (ChatRequest, {"messages": [{"role": "user", "content": "Hi"}]}),
    Place.COMPLETION: (CompletionRequest, {"prompt": "Hi"}),
    Place.MESSAGE: (Message, {"role": "assistant", "content": "Hi"}),
    Place.STREAM_OPTIONS: (StreamOptions, {}),
}
NEEDED = {"messages", "prompt", "role"}
ROWS = [(place, name) for place in BODIES for name in TABLES[place]]
ADVICE = {
    "string": "x", "boolean": True, "number": 7, "object": {"a": 1}, "array": [1], "any": 1.5,
}  # fmt: skip


def with_messages(*messages: dict[str, Any]) -> ChatRequest:
    return validate(ChatRequest, {"messages": list(messages)})


def test_the_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m tools.parameters_page"


@pytest.mark.parametrize("place", BODIES)
def test_every_field_is_in_the_table(place: Place) -> None:
    assert BODIES[place][0].model_fields.keys() <= TABLES[place].keys()


@pytest.mark.parametrize(("place", "name"), ROWS)
def test_what_asks_for_nothing_is_accepted(place: Place, name: str) -> None:
    model, body = BODIES[place]
    needs = {"stream": True} if name == "stream_options" else {}
    for value in (None, *TABLES[place][name].neutral):
        if value is not None or name not in NEEDED:
            validate(model, body | needs | {name: value})


@pytest.mark.parametrize(("place", "name"), ROWS)
def test_what_is_not_supported_is_refused_by_name(place: Place, name: str) -> None:
    model, body = BODIES[place]
    row = TABLES[place][name]
    if name in model.model_fields or row.advice is not None:
        return
    with pytest.raises(ApiError) as refused:
        validate(model, body | {name: {"something": "else"}})
    assert (refused.value.status, refused.value.param) == (400, name)
    assert refused.value.code == "unsupported_parameter"
    assert row.note in refused.value.message


@pytest.mark.parametrize(("place", "name"), ROWS)
def test_advice_has_a_type(place: Place, name: str) -> None:
    model, body = BODIES[place]
    kind = TABLES[place][name].advice
    if kind is None or name in model.model_fields:
        return
    validate(model, body | {name: ADVICE[kind]})
    if kind == "any":
        return
    for wrong in (value for key, value in ADVICE.items() if key not in (kind, "any")):
        with pytest.raises(ApiError) as refused:
            validate(model, body | {name: wrong})
        assert (refused.value.param, refused.value.code) == (name, "invalid_type")


def test_zero_false_and_one_true_are_different_things() -> None:
    _, body = BODIES[Place.CHAT]
    for name, value in (("mirostat", False), ("best_of", True), ("use_beam_search", 0)):
        with pytest.raises(ApiError):
            validate(ChatRequest, body | {name: value})
    for value in (-1, -1.0):
        validate(ChatRequest, body | {"top_n_sigma": value})


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "top_k", "seed", "n"])
def test_whole_numbers_may_have_a_point(name: str) -> None:
    _, body = BODIES[Place.CHAT]
    value = getattr(validate(ChatRequest, body | {name: 2.0}), name)
    assert value == 2
    assert type(value) is int
    for wrong in (2.5, "2", True):
        with pytest.raises(ApiError) as refused:
            validate(ChatRequest, body | {name: wrong})
        assert refused.value.param == name


def test_no_limit_may_be_said() -> None:
    _, body = BODIES[Place.CHAT]
    for name in ("max_tokens", "max_completion_tokens"):
        params = validate(ChatRequest, body | {name: -1, "min_tokens": 9})
        assert params.n_max_tokens == -1
        for wrong in (-2, 0):
            with pytest.raises(ApiError) as refused:
                validate(ChatRequest, body | {name: wrong})
            assert refused.value.param == name


def test_history_as_clients_keep_it() -> None:
    answer = {
        "role": "assistant", "content": None, "tool_calls": [], "refusal": None, "annotations": [],
        "audio": None, "function_call": None, "id": "msg_1", "timestamp": 1700000000.5,
        "cache_control": {"type": "ephemeral"}, "reasoning": "Hm.", "parsed": None,
    }  # fmt: skip
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}, "id": "p"}
    sent = with_messages({"role": "user", "content": [part]}, answer)
    user, assistant = (message.for_template() for message in sent.messages)
    assert user["content"] == [{"type": "text", "text": "Hi"}]
    assert assistant == {"role": "assistant", "content": "", "reasoning_content": "Hm."}


@pytest.mark.parametrize("role", ["user", "system"])
def test_only_the_assistant_may_have_said_nothing(role: str) -> None:
    with pytest.raises(ApiError) as refused:
        with_messages({"role": role, "content": None})
    assert refused.value.param == "messages[0].content"


def test_a_part_is_named_by_what_is_wrong_in_it() -> None:
    part = {"type": "text", "text": "Hi", "cache_control": "x"}
    with pytest.raises(ApiError) as refused:
        with_messages({"role": "user", "content": [part]})
    assert refused.value.param == "messages[0].content.cache_control"


def test_verbosity_is_a_variable_of_templates() -> None:
    _, body = BODIES[Place.CHAT]
    assert validate(ChatRequest, body | {"verbosity": "low"}).template_variables == {
        "verbosity": "low"
    }
    kwargs = {"chat_template_kwargs": {"verbosity": "high"}}
    both = validate(ChatRequest, body | {"verbosity": "low"} | kwargs)
    assert both.template_variables == {"verbosity": "high"}
