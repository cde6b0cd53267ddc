"""Calls whose name stands before arguments that are JSON.

Mistral since its tokenizer v11, Kimi K2, DeepSeek R1, V3 and V3.1, Functionary, Solar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.server.tools.calls import Calls, new_call_id
from slotmux.server.tools.formats.base import read_in_a_row
from slotmux.server.tools.rules import Rules, Tool
from slotmux.server.tools.tape import Steps, Tape
from slotmux.server.tools.values import json_object


@dataclass(frozen=True, slots=True)
class NamedJson:
    """``[section] open [before] NAME sep {...} close ... [section_end]``.

    ``seps`` are what may stand behind the name: the first is what the model is led to. Behind
    ``id_sep`` comes the model's own id of the call. ``id_is_name``: the name stands in the id, as
    ``functions.NAME:0``.
    """

    hints: tuple[str, ...]
    open: str
    seps: tuple[str, ...]
    close: str = ""
    section: str = ""
    section_end: str = ""
    before: tuple[str, ...] = ()
    id_sep: str = ""
    id_first: bool = False  # the id stands before the name
    id_is_name: bool = False
    n_id_chars: int = 0
    other_marks: tuple[str, ...] = ()
    leading: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.section or self.open,)

    @property
    def marks(self) -> tuple[str, ...]:
        marks = (self.section, self.open, self.close, self.section_end, self.id_sep)
        return tuple(m for m in (*marks, *self.seps, *self.other_marks) if m and "\n" not in m)

    def knows(self, source: str) -> bool:
        """By any of the hints."""
        return any(hint in source for hint in self.hints)

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """Calls in a row."""
        yield from read_in_a_row(
            tape, lambda: self._call(tape, calls), self.open, self.section, self.section_end,
            repeats=True,
        )  # fmt: skip

    def _call(self, tape: Tape, calls: Calls) -> Steps[None]:
        yield from tape.one_of(self.before)
        call_id = None
        if self.id_first:
            call_id, _ = yield from tape.short_until((self.id_sep,))
        stops = self.seps if self.id_first or not self.id_sep else (*self.seps, self.id_sep)
        name, stop = yield from tape.short_until(stops)
        if stop == self.id_sep and stop not in self.seps:
            call_id, _ = yield from tape.short_until(self.seps)
        name = name.strip()
        if self.id_is_name:
            call_id, name = name, name.removeprefix("functions.").rpartition(":")[0]
        if call_id is None and self.n_id_chars:
            call_id = new_call_id(self.n_id_chars, "")
        calls.begin(name, call_id)
        yield from json_object(tape, calls.add)
        yield from tape.spaces()
        if self.close:
            yield from tape.accept(self.close.lstrip())
        calls.end()

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """The section, or what follows the first mark of a call."""
        call = rules.any_of([self._rule_of(rules, tool) for tool in tools])
        opening = rules.mark(self.open)
        more = f"(WS {opening} {call})*" if many else ""
        if not self.section:
            return rules.rule(f"{call} {more}")
        end = rules.mark(self.section_end)
        return rules.rule(f"{opening} {call} {more} {end}")

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """None."""
        return []

    def _rule_of(self, rules: Rules, tool: Tool) -> str:
        marks = self.marks
        head = self.before[0] if self.before else ""
        parts = [rules.marked(head, marks)]
        if self.id_first:
            parts += ["/[a-zA-Z0-9_-]{1,32}/", rules.mark(self.id_sep)]
        if self.id_is_name:
            parts += [rules.text(f"functions.{tool.name}:"), "/[0-9]{1,4}/"]
        else:
            parts.append(rules.text(tool.name))
        parts += [rules.marked(self.seps[0], marks), rules.arguments(tool)]
        parts.append(rules.marked(self.close, marks))
        return rules.rule(" ".join(part for part in parts if part))


_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END, _SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"

MISTRAL_V11 = NamedJson(
    ("[ARGS]",), "[TOOL_CALLS]", ("[ARGS]",), id_sep="[CALL_ID]", n_id_chars=9
)  # fmt: skip
KIMI_K2 = NamedJson(
    ("<|tool_calls_section_begin|>",), "<|tool_call_begin|>", ("<|tool_call_argument_begin|>",),
    "<|tool_call_end|>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
    id_is_name=True,
)  # fmt: skip
DEEPSEEK_R1 = NamedJson(
    ("```json",), _CALL, ("\n```json\n",), "\n```" + _CALL_END, _CALLS, _CALLS_END,
    before=("function" + _SEP,), other_marks=(_SEP, _CALL_END),
)  # fmt: skip
DEEPSEEK_V31 = NamedJson((_CALLS,), _CALL, (_SEP,), _CALL_END, _CALLS, _CALLS_END)
FUNCTIONARY_V31 = NamedJson(("<function=",), "<function=", (">",), "</function>")
FUNCTIONARY_V32 = NamedJson((">>>",), ">>>", ("\n",))
SOLAR = NamedJson(
    ("<|tool_call:begin|>",), "<|tool_call:begin|>", ("<|tool_call:args|>",), "<|tool_call:end|>",
    "<|tool_calls|>", "<|calls|>", id_sep="<|tool_call:name|>", id_first=True,
)  # fmt: skip
