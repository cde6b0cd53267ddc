"""What an answer shall look like, under all the names that servers have for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from slotmux.server.grammars.spec import GrammarSpec
from slotmux.server.schemas.base import fault

# llguidance's Lark, where GBNF could stand as well.
_LARK = re.compile(r"^\s*(%llguidance\b|start\s*:)", re.MULTILINE)
_FORMATS = "'text', 'json_object' or 'json_schema'"
_KINDS = "'gbnf', 'regex', 'lark' or 'json_schema'"

Spec = GrammarSpec | None


def _typed(value: Any, kind: type, article: str) -> None:
    if not isinstance(value, kind):
        raise PydanticCustomError(f"{kind.__name__}_type", "should be {what}", {"what": article})


def _only(value: dict[str, Any], names: str) -> None:
    """No other members than ``names``, but for null."""
    for name, member in value.items():
        if name not in names.split() and member is not None:
            raise fault("this member is not supported", _plain(name))


def _plain(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_]{1,64}", name) else "?"


def _schema(value: Any, param: str) -> GrammarSpec:
    """A schema as it is, or as a text that holds one."""
    if isinstance(value, str):
        return GrammarSpec("json_schema", value, param)
    if not isinstance(value, dict | bool):
        raise PydanticCustomError("dict_type", "should be a JSON schema", {"param": None})
    return GrammarSpec("json_schema", orjson.dumps(value).decode(), param)


def _response_format(value: Any) -> Spec:
    if isinstance(value, dict) and value.get("type") == "structural_tag":
        raise fault("'structural_tag' is not supported", "type")
    _typed(value, dict, "an object")
    kind = value.get("type")
    if kind == "text":
        _only(value, "type")
        return None
    if kind == "json_object":
        _only(value, "type schema")
        schema = value.get("schema")
        if schema is None:
            return GrammarSpec("json_object", param="response_format")
        return _schema(schema, "response_format.schema")
    if kind != "json_schema":
        raise fault(f"should be {_FORMATS}", "type")
    _only(value, "type json_schema schema")
    if value.get("json_schema") is None and value.get("schema") is not None:
        return _schema(value["schema"], "response_format.schema")
    return _named_schema(value.get("json_schema"))


def _named_schema(value: Any) -> GrammarSpec:
    """OpenAI's member 'json_schema'. ``strict`` false asks for less than is given."""
    if not isinstance(value, dict):
        raise fault("should be an object with 'name' and 'schema'", "json_schema")
    for name, member in value.items():
        if name not in ("name", "schema", "strict", "description") and member is not None:
            raise fault("this member is not supported", f"json_schema.{_plain(name)}")
    if not isinstance(value.get("name", ""), str):
        raise fault("should be a string", "json_schema.name")
    if not isinstance(value.get("strict"), bool | None):
        raise fault("should be a boolean", "json_schema.strict")
    if value.get("schema") is None:
        raise fault("should hold the schema", "json_schema.schema")
    return _schema(value["schema"], "response_format.json_schema.schema")


def _grammar(value: Any) -> Spec:
    """llama-server's text, or mistral.rs's {type, value}."""
    if isinstance(value, str):
        return _text(value, "grammar") if value.strip() else None
    _typed(value, dict, "a string, or an object with 'type' and 'value'")
    _only(value, "type value")
    kind, held = value.get("type"), value.get("value")
    if kind == "json_schema":
        return _schema(held, "grammar.value")
    if kind not in ("gbnf", "regex", "lark"):
        raise fault(f"should be {_KINDS}", "type")
    if not isinstance(held, str):
        raise fault("should be a string", "value")
    return GrammarSpec(kind, held, "grammar.value")


def _text(value: str, param: str) -> GrammarSpec:
    return GrammarSpec("lark" if _LARK.search(value) else "gbnf", value, param)


def _regex(value: Any, param: str) -> Spec:
    _typed(value, str, "a string")
    return GrammarSpec("regex", value, param) if value else None


def _choice(value: Any, param: str) -> Spec:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PydanticCustomError("list_type", "should be an array of strings", {"param": None})
    return GrammarSpec("choice", orjson.dumps(value).decode(), param) if value else None


def _any_grammar(value: Any, param: str) -> Spec:
    _typed(value, str, "a string")
    return _text(value, param) if value.strip() else None


def _object(value: Any, param: str) -> Spec:
    _typed(value, bool, "a boolean")
    return GrammarSpec("json_object", param=param) if value else None


_VLLM: dict[str, Callable[[Any, str], Spec]] = {
    "json": _schema,
    "regex": _regex,
    "choice": _choice,
    "grammar": _any_grammar,
    "json_object": _object,
}


def _structured_outputs(value: Any) -> Spec:
    _typed(value, dict, "an object")
    found: list[GrammarSpec] = []
    for name, member in value.items():
        if member is None or (name.startswith("disable_") and member is False):
            continue
        read = _VLLM.get(name)
        if read is None:
            raise fault("this member is not supported", _plain(name))
        spec = read(member, f"structured_outputs.{name}")
        found += [] if spec is None else [spec]
    if len(found) > 1:
        raise fault("only one of its members can be followed")
    return found[0] if found else None


def _reader(read: Callable[[Any], Spec]) -> Callable[[Any], Spec]:
    """``read``, but for null."""
    return lambda value: None if value is None else read(value)


def _named(name: str) -> Callable[[Any], Spec]:
    read = _VLLM[name.removeprefix("guided_")]
    return _reader(lambda value: read(value, name))


_Object = dict[str, Any]
ResponseFormat = Annotated[
    Spec, BeforeValidator(_reader(_response_format), json_schema_input_type=_Object | None)
]
Grammar = Annotated[
    Spec, BeforeValidator(_reader(_grammar), json_schema_input_type=str | _Object | None)
]
JsonSchema = Annotated[
    Spec,
    BeforeValidator(
        # llama-server's default, {}, asks for nothing
        _reader(lambda value: None if value == {} else _schema(value, "json_schema")),
        json_schema_input_type=_Object | str | None,
    ),
]
GuidedJson = Annotated[
    Spec, BeforeValidator(_named("guided_json"), json_schema_input_type=_Object | str | None)
]
GuidedRegex = Annotated[
    Spec, BeforeValidator(_named("guided_regex"), json_schema_input_type=str | None)
]
GuidedChoice = Annotated[
    Spec, BeforeValidator(_named("guided_choice"), json_schema_input_type=list[str] | None)
]
GuidedGrammar = Annotated[
    Spec, BeforeValidator(_named("guided_grammar"), json_schema_input_type=str | None)
]
GuidedJsonObject = Annotated[
    Spec, BeforeValidator(_named("guided_json_object"), json_schema_input_type=bool | None)
]
StructuredOutputs = Annotated[
    Spec, BeforeValidator(_reader(_structured_outputs), json_schema_input_type=_Object | None)
]


class StructuredParams(BaseModel):
    """A mixin of the generating endpoints: one wish at most, whatever it is called."""

    response_format: ResponseFormat = None
    grammar: Grammar = None
    json_schema: JsonSchema = None
    guided_json: GuidedJson = None
    guided_regex: GuidedRegex = None
    guided_choice: GuidedChoice = None
    guided_grammar: GuidedGrammar = None
    guided_json_object: GuidedJsonObject = None
    structured_outputs: StructuredOutputs = None

    @property
    def grammar_spec(self) -> GrammarSpec | None:
        """What the answer shall keep to."""
        specs = [spec for name in STRUCTURED_NAMES if (spec := getattr(self, name)) is not None]
        return specs[0] if specs else None

    def check_one_grammar(self) -> None:
        """Two wishes cannot be followed at once."""
        given = [name for name in STRUCTURED_NAMES if getattr(self, name) is not None]
        if len(given) > 1:
            raise fault(f"'{given[0]}' and '{given[1]}' cannot be followed together", given[1])


STRUCTURED_NAMES = tuple(StructuredParams.model_fields)
