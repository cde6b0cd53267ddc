"""Calls in a list as Python would make them: [f(a=1), g(b='x')]. LFM2; Llama 4 writes so too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotmux.server.tools.calls import Calls
from slotmux.server.tools.rules import Rules, Tool, object_schema
from slotmux.server.tools.tape import Steps, Tape
from slotmux.server.tools.values import NAME_CHARS, kinds_of, python_call

_STRING = (
    r"/'([^'\\\n\x00-\x1f]|\\[\\'" + r'"nrt])*' + r"'/"
    " | "
    r'/"([^"\\\n\x00-\x1f]|\\[\\' + r"'" + r'"nrt])*"/'
)
_LITERALS = {
    "string": "PY_STRING",
    "integer": "/-?(0|[1-9][0-9]{0,17})/",
    "number": r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,3})?/",
    "boolean": '("True" | "False")',
    "null": '"None"',
    "array": '"[" (py_value (", " py_value)*)? "]"',
    "object": '"{" (PY_STRING ": " py_value (", " PY_STRING ": " py_value)*)? "}"',
}
_NOTHING = '""'
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Pythonic:
    """``begin`` [calls] ``end``."""

    hints: tuple[str, ...]
    begin: str
    end: str
    leading: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.begin,)

    @property
    def marks(self) -> tuple[str, ...]:
        return (self.begin, self.end)

    def knows(self, source: str) -> bool:
        """By any of the hints."""
        return any(hint in source for hint in self.hints)

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """The list."""
        yield from tape.spaces()
        yield from tape.expect("[")
        while True:
            yield from tape.spaces()
            name = yield from tape.run(NAME_CHARS)
            yield from tape.expect("(")
            calls.begin(name)
            yield from python_call(tape, calls.add)
            calls.end()
            yield from tape.spaces()
            if not (yield from tape.accept(",")):
                break
        yield from tape.expect("]")
        yield from tape.spaces()
        yield from tape.accept(self.end)

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """Keywords in the order of the schema."""
        rules.once("PY_STRING", _STRING)
        rules.once("py_value", " | ".join(_LITERALS.values()))
        call = rules.any_of([_rule_of(rules, tool) for tool in tools])
        more = f' (", " {call})*' if many else ""
        return rules.rule(f'"[" {call}{more} "]" {rules.mark(self.end)}')

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """None."""
        return []


def _rule_of(rules: Rules, tool: Tool) -> str:
    parameters = object_schema(tool.parameters)
    properties = parameters.get("properties")
    pairs = properties.items() if isinstance(properties, Mapping) else ()
    required = parameters.get("required")
    needed = set(required) if isinstance(required, list) else set()
    arguments = [
        (f"{rules.text(key + '=')} {_value(rules, schema)}", key in needed)
        for key, schema in pairs
        if _NAME.fullmatch(key)
    ]
    return rules.rule(
        f"{rules.text(tool.name + '(')} {_listed(rules, arguments)} {rules.text(')')}"
    )


def _listed(rules: Rules, items: list[tuple[str, bool]]) -> str:
    """Items in their order with commas between them; those that are not needed may be missing."""
    tail = ""  # what may follow an item
    for item, is_needed in reversed(items[1:]):
        body = f'", " {item} {tail}'
        tail = rules.rule(body if is_needed else f"{body} | {tail or _NOTHING}")
    if not items:
        return ""
    first, is_needed = items[0]
    if is_needed:
        return f"{first} {tail}"
    rest = _listed(rules, items[1:])
    return f"({first} {tail} | {rest or _NOTHING})"


def _value(rules: Rules, schema: Any) -> str:
    if isinstance(schema, Mapping):
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list) and values:
            return f"({' | '.join(rules.text(repr(value)) for value in values)})"
    kinds = [kind for kind in sorted(kinds_of(schema)) if kind in _LITERALS]
    return f"({' | '.join(_LITERALS[kind] for kind in kinds)})" if kinds else "py_value"


LFM2 = Pythonic(
    ("<|tool_call_start|>", "<|tool_list_start|>", "<|tool_response_start|>", "List of tools: ["),
    "<|tool_call_start|>", "<|tool_call_end|>",
)  # fmt: skip
