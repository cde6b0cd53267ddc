"""Calls that are JSON objects of a name and arguments, alone, in a row or in a list.

Hermes and Qwen, Nemotron, Apriel, Jamba, MiniMax-M1, Granite, Mistral before its tokenizer v11,
Llama 3, Command R7B, GigaChat, Firefunction and Phi-4-mini.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.server.tools.calls import Calls, new_call_id
from slotmux.server.tools.rules import Rules, Tool
from slotmux.server.tools.tape import Emit, MalformedError, Steps, Tape
from slotmux.server.tools.values import json_object, json_string, json_value

_BLANKS = r"[ \n\t]{0,8}"


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """``begin`` and ``end`` stand around; an ``end`` that never comes is none. ``break_`` is the
    white space inside them. ``is_list``: the calls are in one list; else each has its own
    ``begin``, unless ``in_rows``. ``n_id_chars``: ids that the template's history must have."""

    hints: tuple[str, ...]
    begin: str
    end: str = ""
    break_: str = ""
    is_list: bool = False
    in_rows: bool = False
    name_key: str = "name"
    arguments_key: str = "arguments"
    aliases: tuple[str, ...] = ()  # of arguments_key, in reading
    head: tuple[tuple[str, str], ...] = ()  # pairs that come first in an object, as JSON text
    also: tuple[tuple[str, str], ...] = ()  # other pairs of begin and end that models fall into
    n_id_chars: int = 0
    leading: tuple[str, ...] = ()
    is_bare: bool = False  # models begin without ``begin`` when they have to call

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.begin,)

    @property
    def loose(self) -> tuple[str, ...]:
        return tuple(begin for begin, _ in self.also)

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(mark for mark in (self.begin, self.end) if mark)

    def knows(self, source: str) -> bool:
        """By any of the hints."""
        return any(hint in source for hint in self.hints)

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """A list, or objects."""
        yield from tape.spaces()
        if (yield from tape.accept("[")):
            yield from self._list(tape, calls)
        else:
            yield from self._object(tape, calls)
            while self.in_rows or trigger != self.begin:
                yield from tape.spaces()
                yield from tape.one_of((";", ","))
                yield from tape.spaces()
                if not (yield from tape.follows("{")):
                    break
                yield from self._object(tape, calls)
        yield from tape.spaces()
        if end := dict(self.also).get(trigger, self.end):
            yield from tape.accept(end)

    def _list(self, tape: Tape, calls: Calls) -> Steps[None]:
        while True:
            yield from tape.spaces()
            yield from self._object(tape, calls)
            yield from tape.spaces()
            if not (yield from tape.accept(",")):
                break
        yield from tape.expect("]")

    def _object(self, tape: Tape, calls: Calls) -> Steps[None]:
        """One call. Templates of Qwen2.5 show it in doubled braces, and models write it so."""
        yield from tape.expect("{")
        is_doubled = yield from tape.accept("{")
        has_name, early = False, None
        while True:
            yield from tape.spaces()
            key = yield from _text(tape)
            yield from tape.spaces()
            yield from tape.expect(":")
            yield from tape.spaces()
            if key == self.name_key and not has_name:
                calls.begin((yield from _text(tape)), self._new_id())
                has_name = True
                if early is not None:
                    calls.add(early)
            elif key in (self.arguments_key, *self.aliases) and early is None:
                early = yield from _arguments(tape, calls.add if has_name else None)
            else:
                yield from json_value(tape, _drop)
            yield from tape.spaces()
            if not (yield from tape.accept(",")):
                break
        yield from tape.expect("}")
        if is_doubled:
            yield from tape.accept("}")
        if not has_name:
            raise MalformedError
        if early is None:
            calls.add("{}")
        calls.end()

    def _new_id(self) -> str:
        return new_call_id(self.n_id_chars, "") if self.n_id_chars else new_call_id()

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """Name first."""
        call = rules.any_of([self._rule_of(rules, tool) for tool in tools])
        space = rules.text(self.break_)
        if self.is_list:
            more = f' (WS "," WS {call})*' if many else ""
            body = f'WS "[" WS {call}{more} WS "]"'
        elif self.in_rows:
            body = f"{call} ({rules.text(self.break_)} {call})*" if many else call
        else:
            body = call
        end = rules.mark(self.end) if self.end else ""
        body = " ".join(part for part in (space, body, space, end) if part)
        if many and not self.is_list and not self.in_rows and self.end:
            body = f"{body} (WS {rules.mark(self.begin)} {body})*"
        return rules.rule(body)

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """Objects with the name of a tool, where models forget the marks."""
        if not self.leading:
            return []
        key, more = re.escape(self.name_key), "|".join((self.arguments_key, *self.aliases))
        calls = []
        for tool in tools:
            name = re.escape(tool.name).replace("/", r"\/")
            parts = (r"\{", f'"{key}"', ":", f'"{name}"', ",", f'"({more})"', ":")
            head = rules.rule(f"TEXT /{_BLANKS.join(parts)}/", "[lazy]")
            calls.append(rules.rule(f'{head} WS {rules.arguments(tool)} WS "}}"'))
        return calls

    def _rule_of(self, rules: Rules, tool: Tool) -> str:
        pairs = [*self.head, (self.name_key, json.dumps(tool.name))]
        parts = ['"{" WS']
        for key, value in pairs:
            parts.append(f'{rules.text(json.dumps(key))} WS ":" WS {rules.text(value)} WS "," WS')
        parts.append(f'{rules.text(json.dumps(self.arguments_key))} WS ":" WS')
        parts += [rules.arguments(tool), 'WS "}"']
        return rules.rule(" ".join(parts))


def _drop(piece: str) -> None:
    """Takes what nobody wants."""


def _text(tape: Tape) -> Steps[str]:
    pieces: list[str] = []
    yield from json_string(tape, pieces.append)
    text = json.loads("".join(pieces))
    assert isinstance(text, str)
    return text


def _arguments(tape: Tape, emit: Emit | None) -> Steps[str]:
    """An object, or one inside a string; emitted at once, or returned where ``emit`` is None."""
    pieces: list[str] = []
    if (yield from tape.follows('"')):
        inner = Tape()
        inner.push((yield from _text(tape)))
        inner.is_closed = True
        for _ in json_object(inner, pieces.append):
            raise AssertionError("a closed tape never waits")
        if inner.rest.strip():
            raise MalformedError
        if emit is not None:
            emit("".join(pieces))
    else:
        yield from json_object(tape, pieces.append if emit is None else emit)
    return "".join(pieces)


_FENCES = (("```json", "```"), ("<tools>", "</tools>"), ("<function_call>", "</function_call>"))

HERMES = JsonCalls(
    ("<tool_call>",), "<tool_call>", "</tool_call>", "\n", aliases=("parameters",), also=_FENCES,
    leading=("{",),
)  # fmt: skip
NEMOTRON = JsonCalls(("<TOOLCALL>",), "<TOOLCALL>", "</TOOLCALL>", is_list=True)
MINIMAX_M1 = JsonCalls(("<tool_calls>\\n{",), "<tool_calls>", "</tool_calls>", "\n", in_rows=True)
TOOL_CALLS = JsonCalls(("<tool_calls>",), "<tool_calls>", "</tool_calls>", is_list=True)
PHI_4 = JsonCalls(("<|/tool_call|>",), "<|tool_call|>", "<|/tool_call|>", is_list=True)
GRANITE = JsonCalls(("<|tool_call|>",), "<|tool_call|>", is_list=True)
MISTRAL = JsonCalls(("[TOOL_CALLS]",), "[TOOL_CALLS]", is_list=True, n_id_chars=9)
COMMAND_R = JsonCalls(
    ("<|START_ACTION|>",), "<|START_ACTION|>", "<|END_ACTION|>", is_list=True,
    name_key="tool_name", arguments_key="parameters", head=(("tool_call_id", '"0"'),),
)  # fmt: skip
GIGACHAT_31 = JsonCalls(("<|function_call|>",), "<|function_call|>")
GIGACHAT = JsonCalls(("function call<|role_sep|>",), "function call<|role_sep|>\n")
FIREFUNCTION = JsonCalls((" functools[",), " functools", is_list=True)
LLAMA_3 = JsonCalls(
    ("<|python_tag|>", '{"name": function name, "parameters"'),
    "<|python_tag|>", in_rows=True, arguments_key="parameters", aliases=("arguments",),
    also=_FENCES[:1], leading=("{",), is_bare=True,
)  # fmt: skip
