"""What of a conversation reaches the template: parts, thoughts, a last message to go on with."""

from __future__ import annotations

from typing import Any

import pytest

from slotmux.server.http.errors import ApiError
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.chat import TemplateParams

USER = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "Well"}


def params(*messages: dict[str, Any], **options: Any) -> TemplateParams:
    return validate(TemplateParams, {"messages": list(messages), **options})


def test_parts_stay_parts() -> None:
    parts = [{"type": "text", "text": "é"}, {"type": "text", "text": "b"}]
    (message,) = params({"role": "user", "content": parts}).messages
    assert message.for_template()["content"] == parts
    assert message.n_bytes == 3


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_have_one_name_inside(name: str) -> None:
    message = params(USER, {**BEGUN, name: "hm"}, USER).messages[1].for_template()
    assert message == {"role": "assistant", "content": "Well", "reasoning_content": "hm"}


def test_thoughts_that_differ_are_refused() -> None:
    with pytest.raises(ApiError) as refused:
        params(USER, {**BEGUN, "reasoning": "a", "thinking": "b"})
    assert refused.value.param == "messages[1].reasoning_content"


@pytest.mark.parametrize(
    ("last", "options", "continues", "begins"),
    [
        (USER, {}, False, True),
        (BEGUN, {}, True, False),  # as llama-server does
        (BEGUN, {"add_generation_prompt": True}, False, True),
        (BEGUN, {"continue_final_message": False}, False, True),
        (BEGUN, {"add_generation_prompt": False, "continue_final_message": True}, True, False),
        (BEGUN, {"add_generation_prompt": False}, False, False),
        (USER, {"add_generation_prompt": False}, False, False),
        (USER, {"continue_final_message": True}, True, False),
    ],
)
def test_whose_turn_it_is(
    last: dict[str, Any], options: dict[str, bool], continues: bool, begins: bool
) -> None:
    got = params(USER, last, **options)
    assert (got.continues, got.begins_turn) == (continues, begins)


def test_both_at_once_are_refused() -> None:
    with pytest.raises(ApiError) as refused:
        params(USER, BEGUN, add_generation_prompt=True, continue_final_message=True)
    assert refused.value.param == "continue_final_message"
