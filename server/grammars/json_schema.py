"""Checks of a JSON schema before it is compiled: size, depth, and keywords that are not supported.

What is not supported is refused with its place: a keyword that was ignored would promise too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from slotmux.server.grammars.spec import MAX_BYTES, GrammarError, Path, pointer

MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_LITERALS = 10_000  # of one enum
UNSUPPORTED = frozenset(
    (
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "propertyNames",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$recursiveRef",
        "x-guidance",  # the library's own switches are not the client's to set
    )
)
_ONE = ("items", "additionalProperties", "additionalItems")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
# Between the parts of a value, as in llama.cpp: so little that no answer is lost in it.
WHITESPACE = r"( |\n{1,2}[ \t]{0,20})"
# What asks for nothing: the value that each keyword has where it is not given.
_NOTHING: dict[str, object] = {"uniqueItems": False, "unevaluatedProperties": True}


def check_schema(schema: object) -> None:
    """Raise GrammarError for what cannot be honoured; drops keywords that ask for nothing."""
    if len(orjson.dumps(schema)) > MAX_BYTES:
        raise GrammarError(f"a schema has at most {MAX_BYTES} bytes")
    n_nodes = 0
    todo: list[tuple[Path, object]] = [((), schema)]
    while todo:
        path, node = todo.pop()
        n_nodes += 1
        if n_nodes > MAX_NODES:
            raise GrammarError(f"a schema has at most {MAX_NODES} subschemas")
        if len(path) > 2 * MAX_DEPTH:
            raise GrammarError("the schema is nested too deeply", path[:8])
        _check_node(path, node)
        todo += subschemas(path, node)


def subschemas(path: Path, node: object) -> Iterator[tuple[Path, Any]]:
    """The schemas directly inside one, with their paths."""
    if not isinstance(node, dict):
        return
    for key in _ONE:
        if isinstance(node.get(key), dict | bool):
            yield (*path, key), node[key]
    for key in _MANY:
        if isinstance(node.get(key), list):
            yield from (((*path, key, i), item) for i, item in enumerate(node[key]))
    for key in _NAMED:
        if isinstance(node.get(key), dict):
            yield from (((*path, key, name), item) for name, item in node[key].items())


def _check_node(path: Path, node: object) -> None:
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        raise GrammarError("a schema should be an object or a boolean", path)
    for key in UNSUPPORTED & node.keys():
        if key not in _NOTHING or node[key] is not _NOTHING[key]:
            raise GrammarError(f"'{key}' is not supported", (*path, key))
        del node[key]
    ref = node.get("$ref")
    if ref is not None and not (isinstance(ref, str) and ref.startswith("#")):
        raise GrammarError("a '$ref' should begin with '#': nothing is fetched", (*path, "$ref"))
    for key in _NAMED:
        if key in node and not isinstance(node[key], dict):
            raise GrammarError("should be an object of schemas", (*path, key))
    literals = node.get("enum")
    if isinstance(literals, list) and len(literals) > MAX_LITERALS:
        raise GrammarError(f"at most {MAX_LITERALS} values", (*path, "enum"))
    _check_types(path, node)


_TYPES = frozenset(("string", "number", "integer", "boolean", "null", "array", "object"))


def _check_types(path: Path, node: dict[str, Any]) -> None:
    wanted = node.get("type")
    kinds = wanted if isinstance(wanted, list) else [] if wanted is None else [wanted]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        names = ", ".join(sorted(_TYPES))
        raise GrammarError(f"a type should be one of {names}", (*path, "type"))


def alone(root: object, path: Path) -> dict[str, Any]:
    """A schema that is what stands at ``path`` of ``root``, with all that it may refer to."""
    return {"$ref": "#/x-root" + pointer(path), "x-root": _moved(root)}


def _moved(node: object) -> object:
    """A copy whose references lead into x-root. Depth was checked."""
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _moved(value) for key, value in node.items()}
    ref = copy.get("$ref")
    if isinstance(ref, str) and (ref == "#" or ref.startswith("#/")):
        copy["$ref"] = "#/x-root" + ref[1:]
    return copy


_LOOKS_AROUND = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9]|\\k<")


def without_look_around(node: object) -> object:
    """A copy without the patterns that look around or back, which no automaton can follow: those
    of e-mail addresses by zod do. Depth was checked."""
    if isinstance(node, list):
        return [without_look_around(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: without_look_around(value) for key, value in node.items() if not _is_blind(key, value)
    }


def _is_blind(key: object, value: object) -> bool:
    is_pattern = key == "pattern" and isinstance(value, str)
    return is_pattern and _LOOKS_AROUND.search(str(value)) is not None
