"""The forms in which files hold chat templates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gguf import GGUFValueType

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.gguf.values import Entry
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.templates.builtin import CHATML
from slotmux.server.templates.chat_template import file_template
from slotmux.server.templates.stored import stored_template, stored_templates
from tests.runtime.tokenizer.vocabularies import byte_level

KEY = "tokenizer.chat_template"
A, B = "{{ messages }}a", "{% if tools %}b{% endif %}"


def keys(**values: Any) -> Metadata:
    """``main`` is the key without a name, ``names`` the list, others are named templates."""
    found = {"main": KEY, "names": "tokenizer.chat_templates"}
    return Metadata(
        {
            found.get(name, f"{KEY}.{name}"): Entry(GGUFValueType.STRING, value, 0)
            for name, value in values.items()
        }
    )


def named(name: str, template: str) -> dict[str, str]:
    return {"name": name, "template": template}


@pytest.mark.parametrize(
    "data",
    [
        keys(main=A),
        keys(main=A, names=["tool_use", "rag"], tool_use=B, rag=B),
        keys(main=A, tool_use=B),
        keys(main="", default=A, tool_use=B, names=["default", "tool_use"]),
        keys(main=[A, B]),
        keys(main=json.dumps([named("tool_use", B), named("default", A)])),
        keys(main=json.dumps({"tool_use": B, "default": A})),
        keys(main=[json.dumps(named("rag", B)), json.dumps(named("default", A))]),
        keys(main="  \n", rag=A),
    ],
)
def test_the_default_is_found(data: Metadata) -> None:
    assert stored_template(data) == A
    assert not data.warnings


def test_all_of_them_by_name() -> None:
    data = keys(main=A, names=["tool_use", "rag"], tool_use=B, rag="")
    assert stored_templates(data) == {"default": A, "tool_use": B}


@pytest.mark.parametrize("empty", ["", " \n", [], [""], "[]", "{}"])
def test_an_empty_one_is_none(empty: Any) -> None:
    data = keys(main=empty)
    assert stored_template(data) is None
    chosen = file_template(data, Tokenizer.from_metadata(byte_level()))
    assert chosen is not None
    assert chosen.source == CHATML
    assert not data.warnings


@pytest.mark.parametrize("text", ["{{ '[' }}", "{%- if x %}", "[INST]{{ x }}", "{# a #}"])
def test_jinja_is_not_taken_for_json(text: str) -> None:
    assert stored_template(keys(main=text)) == text


@pytest.mark.parametrize("bad", [keys(main=7), keys(names=7), keys(rag=7)])
def test_what_is_no_text_is_ignored_with_a_warning(bad: Metadata) -> None:
    assert stored_template(bad) is None
    assert len(bad.warnings) == 1


@pytest.mark.parametrize("bad", ["{% if %}", "{{", "{% for x in y %}"])
def test_a_template_that_is_wrong_costs_chat_and_no_more(bad: str) -> None:
    data = keys(main=bad)
    assert file_template(data, Tokenizer.from_metadata(byte_level())) is None
    assert "--chat-template-file" in data.warnings[0]
