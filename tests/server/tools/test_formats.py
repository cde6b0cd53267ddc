"""Each format's calls are read, however the text is cut, and what is none comes back as text."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.engine.request import FinishReason
from slotmux.server.answers.delta import Said
from slotmux.server.tools.detect import BY_NAME
from slotmux.server.tools.reader import MessageReader, Plan
from slotmux.server.tools.thought import Thinking
from tests.server.tools.examples import EXAMPLES, SCHEMAS

THINK = Thinking("<think>", "</think>")


def read(plan: Plan, pieces: list[str], reason=FinishReason.STOP) -> tuple[Said, str]:
    reader = MessageReader(plan)
    said = Said()
    for piece in pieces:
        said.add(reader.push(piece, (1,)))
    rest, word = reader.finish(reason)
    said.add(rest)
    said.join()
    return said, word


def meaning(said: Said, word: str) -> tuple:
    calls = [(call.name, call.arguments) for call in said.calls]
    return said.content, said.reasoning, calls, word


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("is_eager", [False, True])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.format)
def test_calls_are_read(example, is_eager):
    plan = Plan(BY_NAME[example.format], SCHEMAS, is_eager=is_eager)
    said, word = read(plan, [example.text])
    assert [(c.name, json.loads(c.arguments)) for c in said.calls] == list(example.calls)
    assert said.content == example.content
    assert word == ("tool_calls" if example.calls else "stop")
    assert len({call.id for call in said.calls}) == len(said.calls)
    assert meaning(*read(plan, list(example.text))) == meaning(said, word)


@given(st.sampled_from(EXAMPLES), st.lists(st.integers(0, 10_000), max_size=8), st.booleans(),
       st.integers(0, 10_000), st.text("<>|{}[]\"'\\,:x", max_size=4), st.booleans())  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_cuts_change_nothing_even_where_the_text_is_damaged(
    example, places, is_eager, where, damage, thinks
):
    at = where % (len(example.text) + 1)
    text = example.text[:at] + damage + example.text[at + len(damage) :]
    plan = Plan(BY_NAME[example.format], SCHEMAS, is_eager, THINK if thinks else None)
    whole = read(plan, [text])
    assert meaning(*read(plan, cut(text, places))) == meaning(*whole)
    if not is_eager:
        for call in whole[0].calls:
            assert isinstance(json.loads(call.arguments), dict)


@given(st.text("<tool_cal>{}\"name:[TOOL_CALLS]think/ \n", max_size=60),
       st.sampled_from(sorted(BY_NAME)), st.lists(st.integers(0, 100), max_size=4))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_text_cut_anywhere(text, name, places):
    plan = Plan(BY_NAME[name], SCHEMAS, thinking=THINK)
    assert meaning(*read(plan, cut(text, places))) == meaning(*read(plan, [text]))


@pytest.mark.parametrize("text", [
    'So <tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call> it is.',
    '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "now", "arguments": {"a": tru}}</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>',
    "<tool_call>now()</tool_call>",
    '<tool_call>{"name": "now", "arguments": {"a": "',
])  # fmt: skip
def test_what_is_no_call_comes_back_as_text(text):
    said, word = read(Plan(BY_NAME["hermes"], SCHEMAS), list(text))
    assert (said.calls, said.content, word) == ([], text, "stop")


def test_what_follows_a_call_that_failed_is_kept_with_the_calls_before_it():
    text = '<tool_call>{"name": "now"}</tool_call><tool_call>{"name": 1}</tool_call>'
    said, word = read(Plan(BY_NAME["hermes"], SCHEMAS), [text])
    assert [call.name for call in said.calls] == ["now"]
    assert said.content == '<tool_call>{"name": 1}</tool_call>'
    assert word == "tool_calls"


def test_pieces_of_arguments_are_told_as_they_come_where_a_grammar_holds():
    reader = MessageReader(Plan(BY_NAME["hermes"], SCHEMAS, is_eager=True))
    head = reader.push('<tool_call>\n{"name": "get_weather", ').tools
    assert [(t.index, t.name, t.arguments) for t in head] == [(0, "get_weather", "")]
    assert head[0].id.startswith("call_")
    (more,) = reader.push('"arguments": {"city": "Os').tools
    assert (more.index, more.id, more.name, more.arguments) == (0, None, None, '{"city": "Os')
    assert reader.push('lo"}}').tools[0].arguments == 'lo"}'


def test_a_call_that_was_cut_off_ends_with_length():
    plan = Plan(BY_NAME["hermes"], SCHEMAS, is_eager=True)
    said, word = read(plan, ['<tool_call>{"name": "now", "arguments": {"a'], FinishReason.LENGTH)
    assert (said.calls[0].arguments, word) == ('{"a', "length")
