"""What a model's template says about how it thinks and calls: found once, when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from slotmux.server.interfaces import TokenizerPort
from slotmux.server.tools.detect import format_of
from slotmux.server.tools.formats.base import Format
from slotmux.server.tools.formats.harmony import Harmony
from slotmux.server.tools.formats.json_calls import HERMES
from slotmux.server.tools.rules import TokenId
from slotmux.server.tools.thought import Thinking, thinking_of

GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """``tells_tools``: the template shows tools to the model; otherwise the server tells of them
    in the system message, and calls are JSON between <tool_call> marks. ``shows_calls``: it shows
    those in the history too. ``tokens``: of the marks
    those that are one token."""

    format_name: str = GENERIC
    format: Format = HERMES
    tells_tools: bool = False
    shows_calls: bool = False
    thinking: Thinking | None = None
    tokens: Mapping[str, TokenId] = field(default_factory=dict)

    @property
    def is_harmony(self) -> bool:
        """Whether every answer is made of messages with channels."""
        return isinstance(self.format, Harmony)

    def find_token(self, mark: str) -> TokenId | None:
        """The token that a mark is."""
        return self.tokens.get(mark)

    def visible(self, *, with_calls: bool) -> frozenset[int]:
        """Control tokens that a reader has to see."""
        marks: tuple[str, ...] = ()
        if self.thinking is not None:
            marks = (self.thinking.opening, self.thinking.closing)
        if with_calls or self.is_harmony:
            marks = (*marks, *self.format.marks)
        found = [self.tokens[mark] for mark in marks if mark in self.tokens]
        return frozenset(token.id for token in found if token.is_control)


def style_of(source: str, sample: str, tokenizer: TokenizerPort) -> ChatStyle:
    """By the text of a template, and a prompt that it made with a call in it."""
    found = format_of(source, sample)
    name, format_ = found or (GENERIC, HERMES)
    thinking = None if isinstance(format_, Harmony) else thinking_of(f"{source}\n{sample}")
    marks = [*format_.marks]
    if thinking is not None:
        marks += [thinking.opening, thinking.closing]
    tokens = _tokens_of(marks, tokenizer)
    return ChatStyle(name, format_, found is not None, bool(sample), thinking, tokens)


def _tokens_of(marks: Iterable[str], tokenizer: TokenizerPort) -> dict[str, TokenId]:
    found = {}
    for mark in marks:
        if mark:
            ids = tokenizer.encode(mark, add_special=False, parse_special=True)
            if len(ids) == 1 and tokenizer.token_bytes(ids[0]) == mark.encode():
                found[mark] = TokenId(ids[0], tokenizer.is_control(ids[0]))
    return found
