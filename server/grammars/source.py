"""From a specification to what llguidance reads. Cheap checks only; nothing is compiled here."""

from __future__ import annotations

import json

import orjson
from llguidance import LLMatcher

from slotmux.server.grammars.gbnf_lark import gbnf_to_lark
from slotmux.server.grammars.json_schema import MAX_LITERALS, WHITESPACE, check_schema
from slotmux.server.grammars.spec import MAX_BYTES, GrammarError, GrammarSpec

_OPTIONS = {"whitespace_pattern": WHITESPACE, "lenient": False, "coerce_one_of": False}
MAX_NESTED = 100  # parentheses of a regular expression


def source_of(spec: GrammarSpec) -> str:
    """The grammar as llguidance's constructor takes it. Raises GrammarError."""
    if len(spec.text.encode()) > MAX_BYTES:
        raise GrammarError(f"at most {MAX_BYTES} bytes")
    if spec.kind == "json_object":
        return json_source({"type": "object"})
    if spec.kind == "json_schema":
        return json_source(_parsed(spec.text))
    if spec.kind == "regex":
        return _regex(spec.text)
    if spec.kind == "choice":
        return _choice(spec.text)
    if spec.kind == "gbnf":
        return str(LLMatcher.grammar_from_lark(gbnf_to_lark(spec.text)))
    if not spec.text.strip():
        raise GrammarError("the grammar is empty")
    return str(LLMatcher.grammar_from_lark(spec.text))


def json_source(schema: object) -> str:
    """The same for a schema."""
    check_schema(schema)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise GrammarError("nothing satisfies this schema")
    return unchecked_json_source(schema)


def unchecked_json_source(schema: dict[str, object]) -> str:
    """The same for a part of a schema that was checked."""
    return json.dumps({"grammars": [{"json_schema": {**schema, "x-guidance": _OPTIONS}}]})


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise GrammarError("the schema is not JSON") from None


def _regex(text: str) -> str:
    depth = deepest = 0
    is_escaped = False
    for char in text:
        if not is_escaped:
            depth += (char == "(") - (char == ")")
            deepest = max(deepest, depth)
        is_escaped = char == "\\" and not is_escaped
    if deepest > MAX_NESTED:
        raise GrammarError(f"groups are nested at most {MAX_NESTED} deep")
    return str(LLMatcher.grammar_from_regex(text))


def _choice(text: str) -> str:
    choices = _parsed(text)
    if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise GrammarError("should be an array of strings")
    if not 1 <= len(choices) <= MAX_LITERALS:
        raise GrammarError(f"should hold 1 to {MAX_LITERALS} strings")
    # One terminal: of two where one begins with the other both can be chosen.
    return str(LLMatcher.grammar_from_lark("start: C\nC: " + " | ".join(map(_quoted, choices))))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else '""'
