"""Grammars of calls as chats have them, over a vocabulary of bytes and marks for models whose words
are random: text is free up to a trigger, from there on a call keeps to its schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from slotmux.runtime.engine.constraint import ConstraintFactory, MatcherLike
from slotmux.server.grammars.matcher import Factory
from slotmux.server.tools.budget import ThoughtBudget
from slotmux.server.tools.detect import BY_NAME
from slotmux.server.tools.grammar import Wanted, lark_of
from slotmux.server.tools.rules import TokenId, Tool
from slotmux.server.tools.style import ChatStyle
from slotmux.server.tools.thought import Thinking

N_VOCAB = 300
THINK = Thinking("<think>", "</think>")
TOOLS = (
    Tool(
        "look",
        None,
        {
            "type": "object",
            "properties": {
                "at": {"type": "string", "maxLength": 3},
                "how": {"enum": ["far away", "near"]},
                "n": {"type": "integer", "minimum": 0, "maximum": 50},
            },
            "required": ["at", "how", "n"],
        },
    ),
    Tool("now", None, {"type": "object", "properties": {}}),
)


class Vocabulary:
    """Bytes and marks, in the places that ``eog`` leaves."""

    bos_token_id = None

    def __init__(self, marks: Sequence[str], eog: frozenset[int]) -> None:
        places = [i for i in range(N_VOCAB) if i not in eog]
        self.bytes = places[:256]
        self.marks = dict(zip(dict.fromkeys(marks), places[256:], strict=False))
        self.tokens = [b""] * N_VOCAB
        for i, place in enumerate(self.bytes):
            self.tokens[place] = bytes([i])
        for mark, place in self.marks.items():
            self.tokens[place] = mark.encode()
        for place in eog:
            self.tokens[place] = b"<end>"
        self.eos_token_id = min(eog)
        self.special_token_ids = [*eog, *self.marks.values()]

    def __call__(self, text: bytes | str) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        return [self.bytes[byte] for byte in data]

    def library(self, eog: frozenset[int]) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(self), n_vocab=N_VOCAB, eos_token=sorted(eog))


@dataclass(frozen=True)
class ToolGrammar:
    """A ConstraintFactory. ``n_thinking``: tokens of a thought, -1: any number, None: the model
    does not think; ``is_open``: the answer begins inside a thought."""

    format: str
    eog: frozenset[int]
    must_call: bool = False
    n_thinking: int | None = None
    is_open: bool = False

    def __call__(self) -> MatcherLike:
        return self._made()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        marks = [mark for mark in BY_NAME[self.format].marks if "tool" in mark.lower()]
        return Vocabulary((*marks, "<think>", "</think>"), self.eog)

    def text(self, tokens: Sequence[int]) -> str:
        """What they say."""
        known = b"".join(self.vocabulary.tokens[token] for token in tokens)
        return known.decode(errors="replace")

    @property
    def triggers(self) -> list[int]:
        """Tokens that a random model has to be led to."""
        found = [*BY_NAME[self.format].triggers, "<think>"]
        return [id_ for mark, id_ in self.vocabulary.marks.items() if mark in found]

    @cached_property
    def _made(self) -> ConstraintFactory:
        vocabulary = self.vocabulary
        tokens = {mark: TokenId(i, is_control=True) for mark, i in vocabulary.marks.items()}
        thinking = None if self.n_thinking is None else THINK
        style = ChatStyle(self.format, BY_NAME[self.format], True, True, thinking, tokens)
        wanted = Wanted(TOOLS, must_call=self.must_call, starts_in_thought=self.is_open)
        source = str(LLMatcher.grammar_from_lark(lark_of(style, wanted)))
        made = Factory(vocabulary.library(self.eog), source)
        if self.n_thinking is None or self.n_thinking < 0:
            return made
        opening = None if self.is_open else vocabulary.marks["<think>"]
        return ThoughtBudget(made, self.n_thinking, vocabulary.marks["</think>"], opening)


@cache
def tool_grammars(eog: frozenset[int]) -> tuple[ToolGrammar, ...]:
    """Of every way in which a grammar waits for its trigger, and of budgets."""
    return (
        ToolGrammar("hermes", eog),
        ToolGrammar("hermes", eog, must_call=True),
        ToolGrammar("hermes", eog, n_thinking=-1),
        ToolGrammar("hermes", eog, n_thinking=5),
        ToolGrammar("hermes", eog, n_thinking=3, is_open=True, must_call=True),
        ToolGrammar("qwen-coder", eog, n_thinking=0),
        ToolGrammar("llama-3", eog),
        ToolGrammar("mistral", eog, n_thinking=8, is_open=True),
    )
