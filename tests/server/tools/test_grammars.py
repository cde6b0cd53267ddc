"""The grammars of all formats: right calls pass, wrong ones do not, and free text stays free."""

from __future__ import annotations

import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from slotmux.server.grammars.matcher import Factory
from slotmux.server.tools.budget import ThoughtBudget
from slotmux.server.tools.detect import BY_NAME
from slotmux.server.tools.grammar import Wanted, lark_of
from slotmux.server.tools.rules import TokenId, Tool
from slotmux.server.tools.style import ChatStyle
from slotmux.server.tools.thought import Thinking
from tests.server.tools.examples import EXAMPLES, SCHEMAS

TOOLS = [Tool(name, None, schema) for name, schema in SCHEMAS.items()]
THINK = Thinking("<think>", "</think>")
EOS = 256


class Vocabulary:
    """Bytes, and the marks of a format as special tokens."""

    eos_token_id, bos_token_id = EOS, None

    def __init__(self, marks: tuple[str, ...]) -> None:
        self.marks = {mark: EOS + 1 + i for i, mark in enumerate(dict.fromkeys(marks))}
        bytes_ = [bytes([i]) for i in range(256)]
        self.tokens = [*bytes_, b"<eos>", *(mark.encode() for mark in self.marks)]
        self.special_token_ids = [EOS, *self.marks.values()]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)

    def ids(self, text: str) -> list[int]:
        """Marks as their tokens."""
        ids: list[int] = []
        while text:
            found = [(at, -len(m), m) for m in self.marks if (at := text.find(m)) >= 0]
            at, _, mark = min(found, default=(len(text), 0, ""))
            ids += [*text[:at].encode(), *([self.marks[mark]] if mark else [])]
            text = text[at + len(mark) :]
        return ids


def style(name: str, vocabulary: Vocabulary, thinking: Thinking | None = None) -> ChatStyle:
    tokens = {mark: TokenId(i, is_control=True) for mark, i in vocabulary.marks.items()}
    return ChatStyle(name, BY_NAME[name], True, True, thinking, tokens)


def accepted(lark: str, vocabulary: Vocabulary, text: str) -> tuple[int, bool]:
    """How many tokens pass, and whether the text may end there."""
    matcher = LLMatcher(LLTokenizer(TokenizerWrapper(vocabulary)), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = vocabulary.ids(text)
    n = 0
    while n < len(ids) and matcher.consume_token(ids[n]):
        n += 1
    return n - len(ids), n == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize("as_tokens", [False, True])
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_right_calls_pass(name, as_tokens):
    format_ = BY_NAME[name]
    vocabulary = Vocabulary(format_.marks if as_tokens else ())
    chat = style(name, vocabulary)
    examples = [e for e in EXAMPLES if e.format == name and e.is_canonical]
    assert examples
    for example in examples:
        for text, wanted in (
            (example.text, Wanted(TOOLS)),
            (
                example.text.removeprefix(example.content).lstrip("\n"),
                Wanted(TOOLS, must_call=True),
            ),
        ):
            assert accepted(lark_of(chat, wanted), vocabulary, text) == (0, True), text
    if name != "harmony":
        assert accepted(lark_of(chat, Wanted(TOOLS)), vocabulary, "Plain {text}\n.") == (0, True)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_wrong_arguments_do_not(name):
    vocabulary = Vocabulary(BY_NAME[name].marks)
    lark = lark_of(style(name, vocabulary), Wanted(TOOLS))
    example = next(e for e in EXAMPLES if e.format == name and e.is_canonical)
    for old, new in (("get_weather", "get_water"), ("days", "daze")):
        # Llama's calls have no mark: with another name it is a text.
        if old in example.text and (name, old) != ("llama-3", "get_weather"):
            assert accepted(lark, vocabulary, example.text.replace(old, new))[0] < 0, new


def test_what_must_be_called_is_all_that_can_come():
    vocabulary = Vocabulary(BY_NAME["hermes"].marks)
    lark = lark_of(style("hermes", vocabulary), Wanted(TOOLS[1:], must_call=True, many=False))
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    assert accepted(lark, vocabulary, call) == (0, True)
    assert accepted(lark, vocabulary, "No.")[0] == -3
    assert accepted(lark, vocabulary, call + call)[0] < 0
    assert accepted(lark, vocabulary, call.replace("now", "get_weather"))[0] < 0


def budgeted(vocabulary: Vocabulary, is_open: bool, n_tokens: int):
    """A matcher of free text behind a thought of at most so many tokens."""
    lark = lark_of(style("hermes", vocabulary, THINK), Wanted(starts_in_thought=is_open))
    tokenizer = LLTokenizer(TokenizerWrapper(vocabulary))
    factory = Factory(tokenizer, LLMatcher.grammar_from_lark(lark))
    opening = None if is_open else vocabulary.marks["<think>"]
    return ThoughtBudget(factory, n_tokens, vocabulary.marks["</think>"], opening)()


def allowed(matcher) -> set[int]:
    words = np.zeros(16, np.uint32)
    matcher.fill_mask(words)
    return {i for i in range(512) if words[i >> 5] >> (i & 31) & 1}


@pytest.mark.parametrize("is_open", [True, False])
def test_a_thought_ends_at_its_budget(is_open):
    vocabulary = Vocabulary((*BY_NAME["hermes"].marks, "<think>", "</think>"))
    end = vocabulary.marks["</think>"]
    matcher = budgeted(vocabulary, is_open, 4)
    for token in vocabulary.ids("" if is_open else "<think>"):
        matcher.consume(token)
    drafts = list(b"abcde")
    assert matcher.n_valid(drafts) == 4
    for token in b"abxy":
        matcher.consume(token)
    assert (allowed(matcher), matcher.forced()) == ({end}, [end])
    matcher.rollback(2)
    assert ord("c") in allowed(matcher)
    for token in b"cd":
        matcher.consume(token)
    matcher.consume(end)
    assert ord("S") in allowed(matcher)
    assert matcher.forced() == []
    for token in b"So it is.":
        matcher.consume(token)
    assert not matcher.is_stopped


def test_a_character_that_was_begun_is_ended_before_its_thought():
    vocabulary = Vocabulary(("<think>", "</think>"))
    matcher = budgeted(vocabulary, True, 1)
    matcher.consume(0xC3)
    assert vocabulary.marks["</think>"] not in allowed(matcher)
    matcher.consume(0xB6)
    assert allowed(matcher) == {vocabulary.marks["</think>"]}


def test_content_that_has_to_be_json_stands_beside_calls_and_behind_a_thought():
    vocabulary = Vocabulary((*BY_NAME["hermes"].marks, "<think>", "</think>"))
    content = '%json {"type": "object", "properties": {"a": {"type": "integer"}}}'
    wanted = Wanted(TOOLS, starts_in_thought=True, content=content)
    lark = lark_of(style("hermes", vocabulary, THINK), wanted)
    assert accepted(lark, vocabulary, 'Hm.</think>{"a":1}') == (0, True)
    assert accepted(lark, vocabulary, 'Hm.</think>{"a":"b"}')[0] < 0
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    assert accepted(lark, vocabulary, f"Hm.</think>{call}") == (0, True)
