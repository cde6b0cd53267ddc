"""The grammar of a whole answer: thought, then free text with calls in it, or calls, or JSON.

Text is free up to a trigger; from there on calls match their schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.server.tools.formats.harmony import CHANNEL, MESSAGE, START
from slotmux.server.tools.formats.json_calls import JsonCalls
from slotmux.server.tools.rules import Rules, Tool
from slotmux.server.tools.style import ChatStyle

_ANALYSIS, _COMMENTARY, _FINAL = '"analysis"', '"commentary"', '"final"'


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer may be. ``must_call``: nothing but calls; ``many``: of them. ``content``: the
    Lark expression that content keeps to, '' if it is free."""

    tools: Sequence[Tool] = ()
    must_call: bool = False
    many: bool = True
    starts_in_thought: bool = False
    content: str = ""


def lark_of(style: ChatStyle, wanted: Wanted) -> str:
    """The grammar as llguidance reads it."""
    rules = Rules(style.find_token)
    if style.is_harmony:
        return rules.grammar(_harmony(style, rules, wanted))
    parts = [_thought(style, rules, wanted), _body(style, rules, wanted)]
    return rules.grammar(" ".join(part for part in parts if part))


def _thought(style: ChatStyle, rules: Rules, wanted: Wanted) -> str:
    if style.thinking is None:
        return ""
    rest = rules.free_until(style.thinking.closing)
    if wanted.starts_in_thought:
        return f"{rest} WS"
    return f"(WS {rules.mark(style.thinking.opening)} {rest} WS)?"


def _body(style: ChatStyle, rules: Rules, wanted: Wanted) -> str:
    format_ = style.format
    if not wanted.tools:
        return wanted.content or "TEXT"
    tools, many = wanted.tools, wanted.many
    triggers = {t: format_.rule(rules, t, tools, many=many) for t in format_.triggers}
    if wanted.must_call or wanted.content:
        calls = [f"{rules.marked(t, format_.marks)} {rule}" for t, rule in triggers.items()]
        if isinstance(format_, JsonCalls) and format_.is_bare:
            calls = list(triggers.values())
        calls = [f"WS {call}" for call in calls]
        if wanted.content and not wanted.must_call:
            calls.append(wanted.content)
        return rules.any_of([rules.rule(call) for call in calls])
    calls = [f"{rules.free_until(t, format_.marks)} {rule}" for t, rule in triggers.items()]
    calls += format_.unmarked(rules, tools)
    call = rules.any_of([rules.rule(call) for call in calls])
    return f"({call})* TEXT" if many else f"({call})? TEXT"


def _harmony(style: ChatStyle, rules: Rules, wanted: Wanted) -> str:
    """Messages of thought and preambles, then what ends the turn."""
    channel, message = rules.mark(CHANNEL), rules.mark(MESSAGE)
    again = f'{rules.mark(START)} "assistant"'
    text = rules.free_until("<|end|>")
    analysis = rules.rule(f"{channel} {_ANALYSIS} {message} {text} {again}")
    preamble = rules.rule(f"{channel} {_COMMENTARY} {message} {text} {again}")
    content = wanted.content or "TEXT"
    ends = []
    if not wanted.must_call:
        ends.append(rules.rule(f"{channel} {_FINAL} {message} {content}"))
    if wanted.tools:
        ends.append(style.format.rule(rules, "", wanted.tools, many=False))
    return f"({analysis} | {preamble})* {rules.any_of(ends)}"
