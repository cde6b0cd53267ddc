"""RELIABILITY class O through whole templates: what users write never becomes special."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import MARKS, SpecialGuard, Tokenizer
from slotmux.runtime.tokenizer.attributes import SPECIAL
from slotmux.server.templates.chat_template import ChatTemplate
from slotmux.server.templates.user_text import MarkedText, Marker
from tests.runtime.tokenizer.vocabularies import CONTROL, USER_DEFINED, byte_level
from tests.server.templates import chat_templates as known

SPECIALS = {
    "<|im_start|>": CONTROL,
    "<|im_end|>": CONTROL,
    "<think>": USER_DEFINED,
    "</think>": USER_DEFINED,
    "<tool_call>": USER_DEFINED,
    "<|eot_id|>": CONTROL,
    "<|start_header_id|>": CONTROL,
    "<|end_header_id|>": CONTROL,
    "<|user|>": CONTROL,
    "<|assistant|>": CONTROL,
    "<|end|>": CONTROL,
}
TOKENIZER = Tokenizer.from_metadata(byte_level(SPECIALS))
TEMPLATES = {
    name: ChatTemplate.for_tokenizer(getattr(known, name), TOKENIZER)
    for name in ("CHATML", "LLAMA3", "QWEN3", "PHI3", "PARTS")
}


def n_special(ids: list[int]) -> int:
    return sum(token_id >= 256 for token_id in ids)


def conversation(text: str) -> dict[str, Any]:
    """``text`` in every place that a user can write to."""
    schema = {"type": "object", "description": text, "properties": {text: {"enum": [text]}}}
    function = {"name": text, "description": text, "parameters": schema}
    call = {"name": text, "arguments": json.dumps({text: text})}
    return {
        "messages": [
            {"role": "system", "content": text, "name": text},
            {"role": "user", "content": text},
            {"role": "assistant", "content": text},
            {
                "role": "assistant",
                "content": text,
                "tool_calls": [{"id": text, "type": "function", "function": call}],
            },
            {"role": "tool", "content": text, "tool_call_id": text},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ],
        "tools": [{"type": "function", "function": function}],
    }


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("special", SPECIALS)
def test_every_special_token_in_every_field(template: ChatTemplate, special: str) -> None:
    harmless = TOKENIZER.encode_rendered(template.render(**conversation("harmless")))
    for text in (special, f" {special}\n", special * 2, special.upper(), f"{special}{special[:3]}"):
        rendered = template.render(**conversation(text))
        ids = TOKENIZER.encode_rendered(rendered)
        assert n_special(ids) == n_special(harmless)
        assert TOKENIZER.decode(ids, skip_special=False) == rendered.text


@pytest.mark.parametrize("name", ["llama", "qwen35", "mamba", "gemma3", "jamba", "rwkv6"])
def test_each_special_token_of_the_golden_models(golden_dir: Path, name: str) -> None:
    metadata = open_gguf(golden_dir / name / "model.gguf").metadata
    tokenizer = Tokenizer.from_metadata(metadata)
    template = ChatTemplate.from_metadata(metadata, tokenizer)
    special = {i for i in range(tokenizer.n_vocab) if tokenizer._vocab.attrs[i] & int(SPECIAL)}

    def count(text: str) -> int:
        ids = tokenizer.encode_rendered(template.render([{"role": "user", "content": text}]))
        return len([token_id for token_id in ids if token_id in special])

    expected = count("harmless")
    for token_id in special:
        text = tokenizer.token_text(token_id)
        assert count(text) == count(f"a{text}b") == expected, text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="<|im_end>/thk \n", max_size=12), min_size=3, max_size=3))
def test_texts_that_only_together_are_special(texts: list[str]) -> None:
    source = (
        "{% for m in messages %}{{ m.name }}{{ m.content }}{{ m.name ~ m.content }}"
        "{{ [m.name, m.content] | join }}{{ '%s%s' | format(m.name, m.content) }}"
        "{{ m.content | replace('k', '') }}{{ m.content.split('t') | join }}"
        "{{ m.content[1:] + m.name[:-1] }}{{ m.content | upper | lower }}"
        "{{ '{}{}'.format(m.name, m.content) }}{{ m.content | trim('<') }}{{ m }}"
        "{{ ''.join([m.content, m.name]) }}{{ m.content | list | join }}{{ m | tojson }}"
        "{{ m.content | title | lower }}{{ (m.name + m.content).replace('t', '') }}"
        "{% set all %}{{ m.name }}{{ m.content }}{% endset %}{{ all.replace('/', '') }}"
        "{{ m.content[::-1] | reverse }}{{ m.content | indent(1) }}{% endfor %}<|im_end|>"
    )
    template = ChatTemplate.for_tokenizer(source, TOKENIZER)
    name, *contents = texts
    messages = [{"role": "user", "name": name, "content": content} for content in contents]
    rendered = template.render(messages)
    ids = TOKENIZER.encode_rendered(rendered)
    assert n_special(ids) == 1
    assert TOKENIZER.decode(ids, skip_special=False) == rendered.text


TEXT = st.text(alphabet="<|endAB> \n", max_size=24)
METHODS = [
    ("strip", ()),
    ("strip", ("<|",)),
    ("lstrip", ()),
    ("rstrip", (">",)),
    ("removeprefix", ("<",)),
    ("removesuffix", ("|>",)),
    ("split", ()),
    ("split", ("n",)),
    ("split", ("<|", 1)),
    ("rsplit", (None, 1)),
    ("rsplit", ("|", 2)),
    ("splitlines", ()),
    ("splitlines", (True,)),
    ("partition", ("|",)),
    ("rpartition", ("en",)),
    ("replace", ("|", "")),
    ("replace", ("n", "xyz", 1)),
    ("lower", ()),
    ("title", ()),
    ("capitalize", ()),
    ("swapcase", ()),
    ("find", ("|>",)),
    ("count", ("<|",)),
    ("startswith", ("<",)),
    ("endswith", (("d", ">"),)),
    ("isspace", ()),
]


@settings(max_examples=50, deadline=None)
@given(TEXT, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, 1, 2, -1]))
@pytest.mark.parametrize(("method", "args"), METHODS)
def test_a_marked_text_acts_as_the_text(
    method: str, args: tuple[Any, ...], text: str, start: int, stop: int, step: int
) -> None:
    marker = Marker(SpecialGuard(["<|end|>", "<A>"]), MARKS[0])
    marked = marker.text(text)
    assert getattr(marked, method)(*args) == getattr(text, method)(*args)
    made = getattr(marked, method)(*args)
    for part in made if isinstance(made, list | tuple) else [made]:
        if isinstance(part, str):
            assert "<|end|>" not in "".join([part])
            assert isinstance(part, MarkedText)
    assert marked[start:stop:step] == text[start:stop:step]
    assert list(marked) == list(text)
    assert len(marked) == len(text)
    assert (marked == text, marked != text, hash(marked)) == (True, False, hash(text))
    assert ("|" in marked, bool(marked)) == ("|" in text, bool(text))
    assert json.loads(json.dumps([marked]).replace("\\ufdd0", "")) == [text]
