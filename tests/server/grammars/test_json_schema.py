"""JSON schemas: what answers may look like, and what is refused, by name and place."""

from __future__ import annotations

import json

import pytest

from slotmux.server.grammars.json_schema import MAX_DEPTH, alone, check_schema, subschemas
from slotmux.server.grammars.spec import GrammarError
from tests.server.grammars.vocabulary import WordTokenizer, factory, takes

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CASES = [
    (PERSON, [{"name": "é", "age": 3}], [{"name": "x"}, {"name": 1, "age": 1}, {}, "x"]),
    ({"type": "object"}, [{}, {"a": [1, {"b": None}]}], [[], 1]),
    ({"enum": ["a", 2, None]}, ["a", 2, None], ["b", 3]),
    ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}]),
    ({"type": ["string", "null"]}, ["x", None], [1]),
    ({"type": "integer", "minimum": 3, "maximum": 12}, [3, 12, 7], [2, 13, 1.5]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "é€é"], ["a", "abcd"]),
    ({"type": "string", "pattern": "^[a-c]+$"}, ["abc"], ["abd", ""]),
    ({"type": "string", "format": "date"}, ["2020-01-31"], ["yesterday"]),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
     [[True], [True, False]], [[], [1], [True, True, True]]),
    ({"prefixItems": [{"type": "string"}], "items": False, "type": "array", "minItems": 1},
     [["a"]], [["a", "b"], []]),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], [None]),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], [None]),
    ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {
        "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}, "required": ["next"],
        "additionalProperties": False}}}, [{"next": {"next": None}}], [{"next": 1}]),
    ({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}},
                {"required": ["a"], "type": "object"}]}, [{"a": "x"}], [{}]),
    ({"type": "array", "uniqueItems": False}, [[1, 1]], [1]),
    (True, [1, "a", None], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "good", "bad"), CASES, ids=[json.dumps(c[0])[:60] for c in CASES]
)
def test_a_schema_takes_its_values_and_no_others(schema, good, bad) -> None:
    made = factory("json_schema", json.dumps(schema))
    for value in good:
        assert takes(made, json.dumps(value, ensure_ascii=False)), value
    for value in bad:
        assert not takes(made, json.dumps(value)), value


def test_between_the_parts_is_room_but_not_without_end() -> None:
    made = factory("json_schema", json.dumps(PERSON))
    assert takes(made, '{"name":"x","age":1}')
    assert takes(made, '{\n  "name": "x",\n  "age": 1\n}')
    assert not takes(made, '{\n\n\n"name": "x", "age": 1}')


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"not": {}}, ("not",)),
        ({"properties": {"a": {"items": {"if": {}}}}}, ("properties", "a", "items", "if")),
        ({"anyOf": [{}, {"contains": {}}]}, ("anyOf", 1, "contains")),
        ({"uniqueItems": True}, ("uniqueItems",)),
        ({"$defs": {"x": {"propertyNames": {}}}}, ("$defs", "x", "propertyNames")),
        ({"x-guidance": {"lenient": True}}, ("x-guidance",)),
        ({"$ref": "http://127.0.0.1/x"}, ("$ref",)),
        ({"$ref": 1}, ("$ref",)),
        ({"items": [{"type": "strin"}]}, ("items", 0, "type")),
        ({"type": {"a": 1}}, ("type",)),
        ({"properties": []}, ("properties",)),
        ({"anyOf": [3]}, ("anyOf", 0)),
        ({"enum": [0] * 10_001}, ("enum",)),
    ],
)
def test_what_is_not_supported_is_named_with_its_place(schema, path) -> None:
    with pytest.raises(GrammarError) as info:
        check_schema(schema)
    assert info.value.path == path


def test_names_of_clients_are_shown_where_they_are_plain() -> None:
    error = GrammarError("x", ("properties", "a-b_1", "anyOf", 3, "<b>", "not"))
    assert error.param("p") == "p.properties.a-b_1.anyOf[3].?.not"


def test_depth_and_number_are_bounded() -> None:
    deep: dict = {"type": "string"}
    for _ in range(MAX_DEPTH + 1):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(GrammarError, match="deeply"):
        check_schema(deep)
    with pytest.raises(GrammarError, match="subschemas"):
        check_schema({"anyOf": [{}] * 30_000})
    with pytest.raises(GrammarError, match="bytes"):
        check_schema({"const": "x" * 300_000})


def test_a_part_stands_alone_with_what_it_refers_to() -> None:
    root = {
        "properties": {"a/b": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
    }
    (path, _), _ = subschemas((), root)
    made = factory("json_schema", json.dumps(alone(root, path)))
    assert takes(made, "12")
    assert not takes(made, '"x"')


def test_ten_thousand_values_can_be_told_apart() -> None:
    made = factory("json_schema", json.dumps({"enum": [f"value {i * i}" for i in range(10_000)]}))
    for i in (0, 17, 9_999):
        assert takes(made, f'"value {i * i}"')
    assert not takes(made, '"value 3"')


def test_special_tokens_and_tokens_without_text_are_never_allowed_in_strings() -> None:
    matcher = factory("json_schema", '{"type": "string"}')()
    matcher.consume(ord('"'))
    special = sorted(WordTokenizer.special_ids)
    for token_id in [*special, 256 + 6, 256 + 10]:
        assert matcher.n_valid([token_id]) == 0
    assert matcher.n_valid([256 + 9]) == 1  # "<tool>" is text like any other here
