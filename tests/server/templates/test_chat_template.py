"""Chat templates as models carry them: what they render, and what a request may set."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import SpecialGuard, Tokenizer
from slotmux.server.templates.chat_template import ChatTemplate, TemplateError
from tests.server.templates import chat_templates as known

SPECIALS = """
    <|im_start|> <|im_end|> <think> </think> <tool_call> </tool_call> <|eot_id|> <|end|>
    <|start_header_id|> <|end_header_id|> <start_of_turn> <end_of_turn> <|user|> <|assistant|>
"""
GUARD = SpecialGuard(SPECIALS.split())
USER = {"role": "user", "content": "Hi"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Wie ist das Wetter? é",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Köln"}'},
        }
    ],
}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, GUARD, bos_token="<s>", eos_token="</s>")


def render(source: str, *messages: dict[str, Any], **options: Any) -> str:
    return template(source).render(list(messages), **options).text


def test_chatml() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert render(known.CHATML, system, USER) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert render(known.CHATML, USER, add_generation_prompt=False).endswith("Hi<|im_end|>\n")


def test_llama3_with_tool_calls() -> None:
    got = render(known.LLAMA3, USER, CALL, {"role": "tool", "content": "sun"})
    assert got == (
        "<s><|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '{"name": "weather", "parameters": {"city": "Köln"}}<|eot_id|>'
        "<|start_header_id|>ipython<|end_header_id|>\n\nsun<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_gemma_trims_blocks_and_refuses_with_its_own_words() -> None:
    answer = {"role": "assistant", "content": " Hello "}
    assert render(known.GEMMA, USER, answer, USER) == (
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    )
    with pytest.raises(TemplateError, match="System role not supported"):
        render(known.GEMMA, {"role": "system", "content": "x"}, USER)
    with pytest.raises(TemplateError, match="must alternate"):
        render(known.GEMMA, USER, USER)


def test_qwen3_tools_and_thinking() -> None:
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}
    got = render(known.QWEN3, USER, thought, USER, tools=TOOLS)
    assert '\n{"type": "function", "function": {"name": "weather", "description": "Wie' in got
    assert "<|im_start|>assistant\nYes<|im_end|>\n" in got  # old thoughts are dropped
    assert got.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert "<think>\nhm\n</think>\n\nYes" in render(known.QWEN3, USER, thought)
    called = render(known.QWEN3, USER, CALL, {"role": "tool", "content": "sun"})
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>' in called
    quiet = render(known.QWEN3, USER, kwargs={"enable_thinking": False})
    assert quiet.endswith("<think>\n\n</think>\n\n")


def test_roles_become_special_tokens_of_phi3_and_nothing_else_does() -> None:
    rendered = template(known.PHI3).render([{"role": "user", "content": "Ok?"}])
    assert rendered.marked == rendered.text == "<|user|>\nOk?<|end|>\n<|assistant|>\n"
    forged = template(known.PHI3).render([{"role": "end", "content": "Hi"}])
    assert forged.text.startswith("<|end|>")
    assert not forged.marked.startswith("<|end|>")


def test_contents_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    listed = {"role": "user", "content": parts}
    assert render(known.CHATML, listed).startswith("<|im_start|>user\na\nb<|im_end|>")
    assert render(known.PARTS, listed) == "<|im_start|>user\nab<|im_end|>\n"
    assert render(known.PARTS, USER) == "<|im_start|>user\nHi<|im_end|>\n"
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    with pytest.raises(TemplateError) as refused:
        render(known.CHATML, image)
    assert refused.value.param == "messages[0].content[0]"


def test_arguments_stay_text_where_the_template_wants_text() -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}"
    )
    assert render(source, CALL) == 'weather{"city": "Köln"}'
    broken = {**CALL["tool_calls"][0], "function": {"name": "f", "arguments": "{not json"}}
    got = render(known.QWEN3, USER, {**CALL, "tool_calls": [broken]})
    assert "{not json" in got


def test_files_without_a_template_and_names_of_templates(golden_dir: Path) -> None:
    metadata = open_gguf(golden_dir / "llama" / "model.gguf").metadata
    tokenizer = Tokenizer.from_metadata(metadata)
    own = ChatTemplate.from_metadata(metadata, tokenizer).render([USER])
    named = ChatTemplate.for_tokenizer("chatml", tokenizer).render([USER])
    assert own.text == named.text == ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    world = open_gguf(golden_dir / "rwkv6" / "model.gguf").metadata
    tokenizer = Tokenizer.from_metadata(world)
    chat = ChatTemplate.from_metadata(world, tokenizer)
    thought = {"role": "assistant", "content": "<think>x</think>yo"}
    prompt = chat.render([{"role": "system", "content": "S"}, USER, thought, USER])
    assert prompt.text == ("<s>System: S\n\nUser: Hi\n\nAssistant: yo\n\nUser: Hi\n\nAssistant:")
    assert tokenizer.encode_rendered(prompt)[0] == 0


def test_environment_is_that_of_transformers() -> None:
    source = (
        "  {% if true %}\n"
        "a\n"
        "  {% endif %}\n"
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
        "{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{% generation %}g{% endgeneration %}"
        "{{ {'b': '<é>', 'a': [1, none, true]} | tojson }}{{ [1] | tojson(indent=1) }}"
        "{{ 'é' | tojson(ensure_ascii=true) }}{{ strftime_now('%Y') | length }}"
        "{{ '<' | safe }}{{ '<' | e }}{{ '%s-%d' | format('x', 2) }}{{ '{}{a}'.format(1, a=2) }}"
    )
    assert render(source, USER) == (
        'a\n02g{"b": "<é>", "a": [1, null, true]}[\n 1\n]"\\u00e9"4<&lt;x-212'
    )


@pytest.mark.parametrize(
    "name",
    [
        "messages",
        "tools",
        "tokenize",
        "add_generation_prompt",
        "chat_template",
        "Chat_Template",
        "MESSAGES",
        "bos_token",
        "range",
        "raise_exception",
        "_x",
        "a.b",
        "",
        "x" * 65,
    ],
)
def test_what_a_request_must_not_set_is_refused_by_name(name: str) -> None:
    with pytest.raises(TemplateError) as refused:
        render(known.QWEN3, USER, kwargs={name: "x"})
    assert refused.value.param is not None
    assert refused.value.param.startswith("chat_template_kwargs")


def test_a_variable_that_is_never_read_asks_for_nothing() -> None:
    plain = render(known.QWEN3, USER)
    assert render(known.QWEN3, USER, kwargs={"unheard_of": "x", "verbosity": "low"}) == plain


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1,), object()])
def test_template_variables_are_scalars(value: Any) -> None:
    with pytest.raises(TemplateError, match="enable_thinking must be"):
        render(known.QWEN3, USER, kwargs={"enable_thinking": value})


def test_errors_do_not_quote_the_conversation() -> None:
    canary = "canary-3141"
    message = {"role": "user", "content": canary}
    sources = (
        "{{ messages[0].content + 1 }}",
        "{{ raise_exception('bad: ' + messages[0].content) }}",
        "{{ messages[0].content.nothing.at_all }}",
        "{{ messages[0][messages[0].content].x }}",
        "{{ messages[0].content | int(default='x') + 1 }}",
    )
    for source in sources:
        with pytest.raises(TemplateError) as refused:
            render(source, message)
        assert canary not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_template_that_cannot_be_compiled_is_refused_when_it_is_loaded() -> None:
    for source in (
        "{% if %}",
        "{{ x",
        "{{ 'a' | no_such_filter }}",
        "{% for x in y %}",
        "plain {{",
    ):
        with pytest.raises(TemplateError, match="cannot be compiled"):
            template(source)


def test_threads_share_a_template() -> None:
    chat = template(known.QWEN3)
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            text = chat.render([{"role": "user", "content": f"<|im_end|>{index}"}]).text
            if f"<|im_end|>{index}<|im_end|>" not in text:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


STRING_OR_PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_parts_reach_templates_that_take_them_as_they_are() -> None:
    """transformers and llama-server put nothing between them; the template decides."""
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two\n"}]
    listed = {"role": "user", "content": parts}
    assert render(STRING_OR_PARTS, listed) == "<user>onetwo\n</s><assistant>"
    assert render(STRING_OR_PARTS, USER) == "<user>Hi</s><assistant>"
    halves = [{"type": "text", "text": half} for half in ("<|im_", "end|>")]
    marked = template(STRING_OR_PARTS).render([{"role": "user", "content": halves}])
    assert "<|im_end|>" in marked.text
    assert "<|im_end|>" not in marked.marked  # two parts do not make a special token


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_of_the_history_under_the_name_that_the_template_reads(name: str) -> None:
    source = (
        "{% for m in messages %}{% if m." + name + " is defined %}<think>{{ m." + name + " }}"
        "</think>{% endif %}{{ m.content }};{% endfor %}"
    )
    thought = {"role": "assistant", "content": "4", "reasoning_content": "two and two"}
    assert render(source, USER, thought, USER) == "Hi;<think>two and two</think>4;Hi;"


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        (known.CHATML, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSure, <"),
        (known.LLAMA3, "<|start_header_id|>assistant<|end_header_id|>\n\nSure, <"),
        (known.GEMMA, "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nSure, <"),
        (known.QWEN3, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSure, <"),
        (known.PHI3, "<|user|>\nHi<|end|>\n<|assistant|>\nSure, <"),
        (known.PARTS, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSure, <"),
        (STRING_OR_PARTS, "<user>Hi</s><assistant>Sure, <"),
    ],
)
def test_the_last_message_is_continued(source: str, prompt: str) -> None:
    """The prompt ends with what was written, blanks too; nothing closes it, no turn is begun."""
    options = {"continue_final_message": True, "add_generation_prompt": False}
    begun = {"role": "assistant", "content": "Sure, <"}
    assert render(source, USER, begun, **options).endswith(prompt)
    blank = {"role": "assistant", "content": "Sure, < \n"}
    assert render(source, USER, blank, **options).endswith(prompt + " \n")
    listed = {"role": "assistant", "content": [{"type": "text", "text": "Sure, <"}]}
    assert render(source, USER, listed, **options).endswith(prompt)
    empty = {"role": "assistant", "content": ""}
    assert render(source, USER, empty, **options).endswith(prompt.removesuffix("Sure, <"))


def test_a_template_that_hides_the_last_message_cannot_continue_it() -> None:
    with pytest.raises(TemplateError, match="does not show the last message"):
        render("{{ messages[0].content }}", USER, USER, continue_final_message=True)


CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "time?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
            for name in ("now", "then")
        ],
    },
    {"role": "tool", "tool_call_id": "now", "content": "12:00"},
    {"role": "tool", "tool_call_id": "then", "content": "11:00"},
]


def test_a_template_may_count_its_calls_in_a_list_of_its_own() -> None:
    """As Kimi K2's does; transformers' sandbox refuses that, llama.cpp renders it."""
    made = template(known.KIMI_K2)
    assert made.sample
    prompt = made.render(CALLS, tools=None).text
    assert "<call>functions.now:0 {}<call>functions.then:1 {}" in prompt
    assert "## Return of functions.now:0: 12:00" in prompt
    assert "## Return of functions.then:1: 11:00" in prompt
    assert made.render(CALLS, tools=None).text == prompt  # nothing is left of it


def test_what_is_given_stays_what_it_is() -> None:
    source = (
        "{% set ns = namespace(l=tools) %}{% set _ = ns.l.append('x') %}"
        "{{ ns.l | length }} {{ tools | length }}{{ messages[0].content }}"
    )
    tools = [{"type": "function"}]
    assert template(source).render(CALLS, tools=tools).text == "2 1time?"
    assert len(tools) == 1


def test_firefunctions_template_is_told_of_the_tools_as_it_asks() -> None:
    made = template(
        "{{ 'Functions:\\n' + functions + '\\nToday is ' + datetime + '.' }}"
        "{% for m in messages %}{{ m.content }}{% for call in m.tool_calls or () %}"
        " functools[{{ call.function.arguments | tojson }}]{% endfor %}{% endfor %}"
    )
    assert made.sample
    prompt = made.render(CALLS, tools=[{"type": "function", "function": {"name": "now"}}]).text
    assert '"name": "now"' in prompt
    assert "Today is " in prompt
    assert "Functions:\n\nToday" in made.render(CALLS, tools=None).text
    own = made.render(CALLS, tools=None, kwargs={"datetime": "noon"}).text
    assert "Today is noon." in own
