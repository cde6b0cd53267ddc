"""Grammars of calls, as text of llguidance's Lark dialect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slotmux.server.grammars.json_schema import without_look_around

# White space between the parts of JSON: some, but no model can get lost in it.
_JSON_OPTIONS = {"whitespace_pattern": r"( |\n{1,2}[ \t]{0,20})"}
_OPEN_ENDED = frozenset(
    (
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "if",
        "oneOf",
        "patternProperties",
        "unevaluatedProperties",
    )
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. ``parameters``: the JSON schema of its arguments."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    is_strict: bool = False

    def as_followed(self) -> Tool:
        """With the schema that arguments keep to: unless ``strict``, without what no grammar can
        follow. Itself if that is all."""
        if self.is_strict:
            return self
        parameters = without_look_around(self.parameters)
        assert isinstance(parameters, Mapping)
        return self if parameters == self.parameters else replace(self, parameters=parameters)

    def for_template(self) -> dict[str, Any]:
        """As templates expect it: OpenAI's own form."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = dict(self.parameters)
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class TokenId:
    """A token whose text is a mark. ``is_control``: only the token is the mark, not its text."""

    id: int
    is_control: bool


FindToken = Callable[[str], TokenId | None]


class Rules:
    """Collects the rules of one grammar; every method returns an expression for use in others."""

    def __init__(self, find_token: FindToken) -> None:
        self._find_token = find_token
        self._lines: list[str] = []
        self._names: dict[str, str] = {}  # by body
        self.is_lenient = False
        self.add("TEXT", r"/(.|\n)*/")
        self.add("WS", r"/[ \n\t]{0,12}/")

    def add(self, name: str, body: str, options: str = "") -> str:
        """A rule, or a terminal if the name is in capitals."""
        self._lines.append(f"{name}{options}: {body}")
        return name

    def once(self, name: str, body: str) -> None:
        """A rule that several places need under its name."""
        if name not in self._names:
            self._names[name] = self.add(name, body)

    def rule(self, body: str, options: str = "") -> str:
        """A rule with a name of its own; the same body gives the same rule."""
        key = f"{options}:{body}"
        if key not in self._names:
            self._names[key] = self.add(f"r{len(self._names)}", body, options)
        return self._names[key]

    def text(self, literal: str) -> str:
        """Exactly this text."""
        return json.dumps(literal, ensure_ascii=False) if literal else ""

    def mark(self, literal: str) -> str:
        """A mark of a format: its token if it is one, or its text if that means the same."""
        token = self._find_token(literal)
        if token is None:
            return self.text(literal)
        if token.is_control:
            return f"<[{token.id}]>"
        return f"(<[{token.id}]> | {self.text(literal)})"

    def marked(self, literal: str, marks: Sequence[str]) -> str:
        """A text in which each of ``marks`` stands for its token."""
        parts: list[str] = []
        rest = literal
        while rest:
            found = [(at, -len(mark), mark) for mark in marks if (at := rest.find(mark)) >= 0]
            at, _, mark = min(found, default=(len(rest), 0, ""))
            parts += [self.text(rest[:at]), self.mark(mark) if mark else ""]
            rest = rest[at + len(mark) :]
        return " ".join(part for part in parts if part)

    def free_until(self, mark: str, marks: Sequence[str] = ()) -> str:
        """Any text up to ``mark``, whichever way that is written, and the mark. ``marks``: tokens
        that it may be made of."""
        token = self._find_token(mark)
        if token is None and (inner := self._token_inside(mark, marks)):
            at, part, found = inner
            rest = self.marked(mark[at + len(part) :], marks)
            return self.rule(f"TEXT <[{found.id}]> {rest}")  # the text before it is any text too
        lazy = self.rule(f"TEXT {self.text(mark)}", "[lazy]")
        if token is None:
            return lazy
        by_token = f"TEXT <[{token.id}]>"
        return self.rule(by_token if token.is_control else f"{by_token} | {lazy}")

    def _token_inside(self, text: str, marks: Sequence[str]) -> tuple[int, str, TokenId] | None:
        """The first token that stands in ``text``: where, which, and its id."""
        found = [
            (at, mark, token)
            for mark in marks
            if (at := text.find(mark)) >= 0 and (token := self._find_token(mark)) is not None
        ]
        return min(found, key=lambda item: item[0], default=None)

    def json(self, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> str:
        """A JSON value; references are looked up in ``root``."""
        whole = dict(closed(schema))
        for key in ("$defs", "definitions"):
            if root is not None and key in root and key not in whole:
                whole[key] = root[key]
        return self.rule(self.json_text(whole, is_lenient=self.is_lenient))

    @staticmethod
    def json_text(schema: Mapping[str, Any], *, is_lenient: bool = False) -> str:
        """An expression for a JSON value. ``is_lenient``: keywords that cannot be followed are
        passed over instead of refused."""
        options = {**_JSON_OPTIONS, "lenient": is_lenient, "coerce_one_of": is_lenient}
        whole = {**schema, "x-guidance": options}
        return f"%json {json.dumps(whole, ensure_ascii=False)}"

    def arguments(self, tool: Tool) -> str:
        """An object that is right for the arguments of ``tool``."""
        self.is_lenient = not tool.is_strict
        return self.json(object_schema(tool.parameters))

    def any_of(self, choices: Sequence[str]) -> str:
        """One of several."""
        return choices[0] if len(choices) == 1 else self.rule(" | ".join(choices))

    def grammar(self, start: str) -> str:
        """The whole text."""
        return "\n".join(["%llguidance {}", f"start: {start}", *self._lines, ""])


def object_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema of arguments, which are an object whatever else it says."""
    if "type" in schema or "$ref" in schema or "anyOf" in schema or "oneOf" in schema:
        return schema
    return {"type": "object", **schema}


def closed(schema: Any) -> Any:
    """``schema`` with objects that name their properties limited to these, as in ``strict``: what
    matches it matches ``schema``."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    out = {key: _closed_value(key, value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), Mapping) and not _OPEN_ENDED & schema.keys():
        out["additionalProperties"] = False
    return out


def _closed_value(key: str, value: Any) -> Any:
    if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
        return {name: closed(item) for name, item in value.items()}
    # A part of allOf says nothing about the other parts' properties.
    return closed(value) if key in ("items", "prefixItems", "anyOf", "oneOf") else value
