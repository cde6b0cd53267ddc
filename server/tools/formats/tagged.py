"""Calls whose arguments stand one by one between tags, strings as plain text.

Qwen3-Coder, Qwen3.5, Nemotron 3, Step and Seed-OSS; GLM; MiniMax-M2; DeepSeek V3.2 and V4; MiniCPM;
Hunyuan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotmux.server.tools.calls import Calls
from slotmux.server.tools.formats.base import read_in_a_row
from slotmux.server.tools.rules import Rules, Tool
from slotmux.server.tools.tape import MalformedError, Steps, Tape
from slotmux.server.tools.values import kinds_of, tagged_value


@dataclass(frozen=True, slots=True)
class Tagged:
    """``[section] open NAME head_end (key KEY key_end VALUE value_end)* close [section_end]``.

    ``key_ends``: what may stand between key and value, the first for a string, the last for
    anything else; if there are two, the model says with it which of the two the value is.
    ``break_``: the white space that the template writes between these parts, ``value_break`` that
    around a value.
    """

    hints: tuple[str, ...]
    open: str
    head_end: str
    key: str
    key_ends: tuple[str, ...]
    value_end: str
    close: str
    section: str = ""
    section_end: str = ""
    break_: str = "\n"
    value_break: str = ""
    section_break: str = "\n"
    same_section: bool = False  # several calls share one section
    other_marks: tuple[str, ...] = ()
    leading: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    key_tail: str = ""  # what comes between the key's own end and what key_ends say

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.section or self.open,)

    @property
    def marks(self) -> tuple[str, ...]:
        marks = (self.section, self.section_end, self.open, self.close, self.key, self.value_end)
        more = (*self.key_ends, self.key_tail, *self.other_marks)
        return tuple(mark for mark in (*marks, *more) if mark and "\n" not in mark)

    def knows(self, source: str) -> bool:
        """By all of the hints."""
        return all(hint in source for hint in self.hints)

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """One section, or one call."""
        yield from read_in_a_row(
            tape, lambda: self._call(tape, calls), self.open, self.section, self.section_end,
            repeats=bool(self.section),
        )  # fmt: skip

    def _call(self, tape: Tape, calls: Calls) -> Steps[None]:
        name = yield from self._name(tape)
        calls.begin(name)
        properties = _properties(calls.schemas[name])
        calls.add("{")
        is_first = True
        while True:
            yield from tape.spaces()
            if not (yield from tape.accept(self.key)):
                break
            key, key_end = yield from tape.short_until(self.key_ends)
            if self.key_tail:
                yield from tape.spaces()
                yield from tape.expect(self.key_tail)
            is_text = key_end == self.key_ends[0] if len(self.key_ends) > 1 else None
            calls.add(("" if is_first else ", ") + json.dumps(key, ensure_ascii=False) + ": ")
            is_first = False
            stops = (self.value_end,)
            schema = properties.get(key)
            yield from tagged_value(tape, calls.add, stops, schema, is_text=is_text)
        calls.add("}")
        if not (yield from tape.accept(self.close)) and (yield from tape.peek()):
            raise MalformedError
        calls.end()

    def _name(self, tape: Tape) -> Steps[str]:
        """Up to head_end, or where there is none up to the first tag or line break."""
        if self.head_end:
            name, _ = yield from tape.short_until((self.head_end,))
            return name.strip()
        pieces: list[str] = []
        while (char := (yield from tape.peek())) and char not in "<\n" and len(pieces) < 256:
            pieces.append(char)
            tape.pos += 1
        return "".join(pieces).strip()

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """The arguments in the order of the schema."""
        call = rules.any_of([self._rule_of(rules, tool) for tool in tools])
        if not self.section:
            more = f"(WS {rules.mark(self.open)} {call})*" if many else ""
            return rules.rule(f"{call} {more}")
        space, opening = rules.text(self.section_break), rules.mark(self.open)
        end = rules.mark(self.section_end)
        if self.same_section:
            more = f"(WS {opening} {call})*" if many else ""
            return rules.rule(f"{space} {opening} {call} {more} {space} {end}")
        one = f"{space} {opening} {call} {space} {end}"
        more = f"(WS {rules.mark(self.section)} {one})*" if many else ""
        return rules.rule(f"{one} {more}")

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """None."""
        return []

    def _rule_of(self, rules: Rules, tool: Tool) -> str:
        space = rules.text(self.break_)
        rules.is_lenient = not tool.is_strict
        parts = [rules.text(tool.name), rules.marked(self.head_end, self.marks), space]
        required = tool.parameters.get("required")
        needed = set(required) if isinstance(required, list) else set()
        for key, schema in _properties(tool.parameters).items():
            pair = self._pair(rules, tool, key, schema)
            parts.append(pair if key in needed else f"({pair})?")
        parts.append(rules.marked(self.close, self.marks))
        return rules.rule(" ".join(part for part in parts if part))

    def _pair(self, rules: Rules, tool: Tool, key: str, schema: Any) -> str:
        is_text = kinds_of(schema) == {"string"}
        key_end = self.key_ends[0 if is_text else -1]
        head = [rules.marked(self.key, self.marks), rules.text(key)]
        head += [rules.marked(key_end, self.marks)]
        if self.key_tail:
            head += [rules.text(self.break_), rules.marked(self.key_tail, self.marks)]
        space = rules.text(self.value_break)
        value = self._value(rules, tool, schema, is_text=is_text)
        parts = [*head, space, value, rules.text(self.break_)]
        return rules.rule(" ".join(part for part in parts if part))

    def _value(self, rules: Rules, tool: Tool, schema: Any, *, is_text: bool) -> str:
        """The value and what ends it."""
        ending = f"{rules.text(self.value_break)} {rules.marked(self.value_end, self.marks)}"
        schema = schema if isinstance(schema, Mapping) else {}
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if is_text and isinstance(values, list) and values:
            return f"({' | '.join(rules.text(str(value)) for value in values)}) {ending}"
        if is_text:
            # Lazy, by its own text: a closing tag is an ordinary text or one token of its own.
            return rules.free_until(self.value_end, self.marks)
        return f"{rules.json(schema, tool.parameters)} {ending}"


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


QWEN_CODER = Tagged(
    ("<function=", "<parameter=", "<tool_call>"), "<function=", ">", "<parameter=", (">",),
    "</parameter>", "</function>", "<tool_call>", "</tool_call>", value_break="\n",
)  # fmt: skip
SEED_OSS = Tagged(
    ("<seed:tool_call>",), "<function=", ">", "<parameter=", (">",), "</parameter>",
    "</function>", "<seed:tool_call>", "</seed:tool_call>",
)  # fmt: skip
GLM = Tagged(
    ("<arg_key>", "<tool_call>"), "<tool_call>", "", "<arg_key>", ("</arg_key>",), "</arg_value>",
    "</tool_call>", key_tail="<arg_value>",
)  # fmt: skip
GLM_TIGHT = Tagged(
    ("<arg_key>", "<tool_call>"), "<tool_call>", "", "<arg_key>", ("</arg_key>",), "</arg_value>",
    "</tool_call>", key_tail="<arg_value>", break_="",
)  # fmt: skip
MINIMAX_M2 = Tagged(
    ("<minimax:tool_call>",), '<invoke name="', '">', '<parameter name="', ('">',),
    "</parameter>", "</invoke>", "<minimax:tool_call>", "</minimax:tool_call>", same_section=True,
)  # fmt: skip
MINICPM = Tagged(
    ('<function name="', '<param name="'), '<function name="', '">', '<param name="', ('">',),
    "</param>", "</function>", break_="",
)  # fmt: skip
HUNYUAN = Tagged(
    ("<tool_calls:opensource>",), "<tool_call:opensource>", "<tool_sep:opensource>",
    "<arg_key:opensource>", ("</arg_key:opensource>",), "</arg_value:opensource>",
    "</tool_call:opensource>", "<tool_calls:opensource>", "</tool_calls:opensource>",
    same_section=True, key_tail="<arg_value:opensource>",
    other_marks=("<tool_sep:opensource>", "<arg_value:opensource>"),
)  # fmt: skip
MUSE = Tagged(
    ("<atem:function_calls>",), '<atem:invoke name="', '">', '<atem:parameter name="', ('">',),
    "</atem:parameter>", "</atem:invoke>", "<atem:function_calls>", "</atem:function_calls>",
    same_section=True,
)  # fmt: skip


def _dsml(section: str) -> Tagged:
    mark = "<｜DSML｜"
    return Tagged(
        (f"｜DSML｜{section}",), f'{mark}invoke name="', '">', f'{mark}parameter name="',
        ('" string="true">', '" string="false">'), "</｜DSML｜parameter>", "</｜DSML｜invoke>",
        f"{mark}{section}>", f"</｜DSML｜{section}>", same_section=True, other_marks=("｜DSML｜",),
    )  # fmt: skip


DEEPSEEK_V32 = _dsml("function_calls")
DEEPSEEK_V4 = _dsml("tool_calls")
