"""Gemma 4: <|tool_call>call:NAME{key:value,...}<tool_call|> with strings between <|"|> marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotmux.server.tools.calls import Calls
from slotmux.server.tools.rules import Rules, Tool, object_schema
from slotmux.server.tools.tape import Emit, MalformedError, Steps, Tape
from slotmux.server.tools.values import MAX_DEPTH, escaped, json_value, kinds_of

_Item = Callable[[Tape, Emit, int], Steps[None]]
_OPEN, _CLOSE, _QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
_SCALARS = {
    "integer": "/-?(0|[1-9][0-9]{0,17})/",
    "number": r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,3})?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}


@dataclass(frozen=True, slots=True)
class Gemma:
    """Each call has its marks."""

    triggers: tuple[str, ...] = (_OPEN,)
    marks: tuple[str, ...] = (_OPEN, _CLOSE, _QUOTE)
    leading: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    def knows(self, source: str) -> bool:
        """By the mark of a call."""
        return _OPEN in source

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """One call."""
        yield from tape.expect("call:")
        name, _ = yield from tape.short_until(("{",))
        calls.begin(name)
        yield from _pairs(tape, calls.add, 0)
        yield from tape.spaces()
        yield from tape.accept(_CLOSE)
        calls.end()

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """Keys sorted, as the template writes them."""
        call = rules.any_of([_rule_of(rules, tool) for tool in tools])
        more = f"({rules.mark(_OPEN)} {call})*" if many else ""
        return rules.rule(f"{call} {more}")

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """None."""
        return []


def _pairs(tape: Tape, emit: Emit, depth: int) -> Steps[None]:
    """What stands behind {, and the } too."""
    yield from _items(tape, emit, depth, "{}", _pair)


def _items(tape: Tape, emit: Emit, depth: int, ends: str, item: _Item) -> Steps[None]:
    """What stands behind the first of ``ends``, separated by commas, and the second too."""
    if depth >= MAX_DEPTH:
        raise MalformedError
    emit(ends[0])
    is_first = True
    while True:
        yield from tape.spaces()
        if (yield from tape.accept(ends[1])):
            break
        if not is_first:
            yield from tape.expect(",")
            yield from tape.spaces()
            emit(", ")
        is_first = False
        yield from item(tape, emit, depth + 1)
    emit(ends[1])


def _pair(tape: Tape, emit: Emit, depth: int) -> Steps[None]:
    if (yield from tape.accept(_QUOTE)):
        key, _ = yield from tape.short_until((_QUOTE,))
        yield from tape.expect(":")
    else:
        key, _ = yield from tape.short_until((":",))
    emit(json.dumps(key.strip().strip('"'), ensure_ascii=False) + ": ")
    yield from _value(tape, emit, depth)


def _value(tape: Tape, emit: Emit, depth: int) -> Steps[None]:
    yield from tape.spaces()
    if (yield from tape.accept(_QUOTE)):
        emit('"')
        if not (yield from tape.until((_QUOTE,), lambda piece: emit(escaped(piece)))):
            raise MalformedError
        emit('"')
    elif (yield from tape.accept("{")):
        yield from _pairs(tape, emit, depth)
    elif (yield from tape.accept("[")):
        yield from _items(tape, emit, depth, "[]", _value)
    else:
        yield from json_value(tape, emit, depth)


def _rule_of(rules: Rules, tool: Tool) -> str:
    body = _object_rule(rules, object_schema(tool.parameters), 0)
    return rules.rule(f"{rules.text('call:' + tool.name)} {body} {rules.mark(_CLOSE)}")


def _object_rule(rules: Rules, schema: Mapping[str, Any], depth: int) -> str:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties or depth >= MAX_DEPTH:
        return _any_value(rules, "object")
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    tails = [""]
    items = sorted(properties.items())
    for key, value in reversed(items):
        pair = f"{rules.text(key + ':')} {_value_rule(rules, value, depth)}"
        later, tail = f'"," {pair} {tails[-1]}', tails[-1] or '""'
        tails.append(rules.rule(later if key in needed else f"{later} | {tail}"))
    starts = []
    for index, (key, value) in enumerate(items):
        pair = f"{rules.text(key + ':')} {_value_rule(rules, value, depth)}"
        starts.append(f"{pair} {tails[len(items) - index - 1]}")
        if key in needed:
            break
    else:
        starts.append('""')
    return rules.rule(f'"{{" ({" | ".join(starts)}) "}}"')


def _value_rule(rules: Rules, schema: Any, depth: int) -> str:
    if isinstance(schema, Mapping):
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list) and values:
            return f"({' | '.join(_constant(rules, value) for value in values)})"
        kinds = kinds_of(schema)
        if kinds == {"object"}:
            return _object_rule(rules, schema, depth + 1)
        if kinds == {"array"} and isinstance(schema.get("items"), Mapping) and depth < MAX_DEPTH:
            item = _value_rule(rules, schema["items"], depth + 1)
            return rules.rule(f'"[" ({item} ("," {item})*)? "]"')
        if kinds:
            return f"({' | '.join(_any_value(rules, kind) for kind in sorted(kinds))})"
    return _any_value(rules, "")


def _constant(rules: Rules, value: Any) -> str:
    if isinstance(value, str):
        return f"{rules.mark(_QUOTE)} {rules.text(value)} {rules.mark(_QUOTE)}"
    return rules.text(json.dumps(value))


def _any_value(rules: Rules, kind: str) -> str:
    """Any value of a JSON type, '' for any at all."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    text = rules.rule(f"{rules.mark(_QUOTE)} {rules.free_until(_QUOTE)}")
    if kind == "string":
        return text
    rules.once("gemma_list", '"[" (gemma_value ("," gemma_value)*)? "]"')
    rules.once("GEMMA_KEY", "/[A-Za-z_][A-Za-z0-9_]*/")
    pair = 'GEMMA_KEY ":" gemma_value'
    rules.once("gemma_object", f'"{{" ({pair} ("," {pair})*)? "}}"')
    scalars = " | ".join(_SCALARS.values())
    rules.once("gemma_value", f"{text} | {scalars} | gemma_list | gemma_object")
    return {"array": "gemma_list", "object": "gemma_object"}.get(kind, "gemma_value")


GEMMA_4 = Gemma()
