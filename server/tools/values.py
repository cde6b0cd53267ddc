"""Arguments as models write them, to JSON text while they come: JSON, Python literals, plain text.

What is emitted is valid JSON as far as it goes; a fault raises MalformedError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from slotmux.server.tools.tape import Emit, MalformedError, Steps, Tape

MAX_DEPTH = 64
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_PLAIN_PYTHON = re.compile(r"[^\"'\\\x00-\x1f]+")
_NUMBER_CHARS = re.compile(r"[-+0-9.eE]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD_CHARS = re.compile(r"[A-Za-z0-9_]+")
NAME_CHARS = re.compile(r"[A-Za-z0-9_.\-]+")
_JSON_WORDS = {"true": "true", "false": "false", "null": "null"}
_PYTHON_WORDS = _JSON_WORDS | {"True": "true", "False": "false", "None": "null"}
_PYTHON_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "a": "\a", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "\n": "", "/": "/",
}  # fmt: skip
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def escaped(text: str) -> str:
    """``text`` as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def json_object(tape: Tape, emit: Emit) -> Steps[None]:
    """An object and nothing else."""
    yield from tape.spaces()
    if not (yield from tape.follows("{")):
        raise MalformedError
    yield from json_value(tape, emit)


def json_value(tape: Tape, emit: Emit, depth: int = 0) -> Steps[None]:
    """Any JSON value, copied without the white space around its parts."""
    yield from tape.spaces()
    char = yield from tape.peek()
    if char == '"':
        yield from json_string(tape, emit)
    elif char in ("{", "["):
        yield from _container(tape, emit, depth)
    elif char == "-" or char.isdigit():
        yield from _number(tape, emit)
    else:
        yield from _word(tape, emit, _JSON_WORDS)


def _container(tape: Tape, emit: Emit, depth: int) -> Steps[None]:
    is_object = (yield from tape.take(1)) == "{"
    opening, closing = "{}" if is_object else "[]"
    if depth >= MAX_DEPTH:
        raise MalformedError
    emit(opening)
    yield from tape.spaces()
    if not (yield from tape.accept(closing)):
        while True:
            if is_object:
                yield from tape.spaces()
                yield from json_string(tape, emit)
                yield from tape.spaces()
                yield from tape.expect(":")
                emit(": ")
            yield from json_value(tape, emit, depth + 1)
            yield from tape.spaces()
            if not (yield from tape.accept(",")):
                break
            emit(", ")
        yield from tape.expect(closing)
    emit(closing)


def json_string(tape: Tape, emit: Emit) -> Steps[None]:
    """A JSON string; control characters in it, which JSON forbids, are escaped."""
    yield from tape.expect('"')
    emit('"')
    while True:
        char = yield from tape.peek()
        if found := _PLAIN.match(tape.text, tape.pos):
            tape.pos = found.end()
            emit(found.group())
        elif char == '"':
            tape.pos += 1
            emit('"')
            return
        elif char == "\\":
            emit((yield from _json_escape(tape)))
        elif char:
            tape.pos += 1
            emit(escaped(char))
        else:
            raise MalformedError


def _json_escape(tape: Tape) -> Steps[str]:
    escape = yield from tape.take(2)
    if escape[1] == "u":
        digits = yield from tape.take(4)
        if not re.fullmatch("[0-9a-fA-F]{4}", digits):
            raise MalformedError
        return escape + digits
    if escape == "\\'":
        return "'"
    if escape[1] not in '"\\/bfnrt':
        raise MalformedError
    return escape


def _number(tape: Tape, emit: Emit) -> Steps[None]:
    number = yield from tape.run(_NUMBER_CHARS)
    if not _NUMBER.fullmatch(number):
        raise MalformedError
    emit(number)


def _word(tape: Tape, emit: Emit, words: Mapping[str, str]) -> Steps[None]:
    word = yield from tape.run(_WORD_CHARS)
    if word not in words:
        raise MalformedError
    emit(words[word])


# -- Python


def python_call(tape: Tape, emit: Emit) -> Steps[None]:
    """What stands between ( and ) of a call with keywords, the bracket behind it too."""
    emit("{")
    yield from tape.spaces()
    is_first = True
    while not (yield from tape.accept(")")):
        if not is_first:
            yield from tape.expect(",")
            emit(", ")
            yield from tape.spaces()
        is_first = False
        name = yield from tape.run(_WORD_CHARS)
        if not _WORD.fullmatch(name):
            raise MalformedError
        yield from tape.spaces()
        yield from tape.expect("=")
        emit(f'"{name}": ')
        yield from python_value(tape, emit)
        yield from tape.spaces()
    emit("}")


def python_value(tape: Tape, emit: Emit, depth: int = 0) -> Steps[None]:
    """A Python literal: string, number, True, False, None, list, tuple, dict with string keys."""
    yield from tape.spaces()
    char = yield from tape.peek()
    if char in ("'", '"'):
        yield from _python_string(tape, emit)
    elif char and char in "{[(":
        yield from _python_container(tape, emit, depth)
    elif char == "-" or char.isdigit():
        yield from _number(tape, emit)
    else:
        yield from _word(tape, emit, _PYTHON_WORDS)


def _python_container(tape: Tape, emit: Emit, depth: int) -> Steps[None]:
    opening = yield from tape.take(1)
    closing = {"{": "}", "[": "]", "(": ")"}[opening]
    if depth >= MAX_DEPTH:
        raise MalformedError
    emit("{" if opening == "{" else "[")
    is_first = True
    while True:
        yield from tape.spaces()
        if (yield from tape.accept(closing)):
            break
        if not is_first:
            yield from tape.expect(",")
            yield from tape.spaces()
            if (yield from tape.accept(closing)):
                break
            emit(", ")
        is_first = False
        if opening == "{":
            yield from _python_string(tape, emit)
            yield from tape.spaces()
            yield from tape.expect(":")
            emit(": ")
        yield from python_value(tape, emit, depth + 1)
    emit("}" if opening == "{" else "]")


def _python_string(tape: Tape, emit: Emit) -> Steps[None]:
    quote = yield from tape.take(1)
    if quote not in ("'", '"'):
        raise MalformedError
    emit('"')
    while True:
        char = yield from tape.peek()
        if found := _PLAIN_PYTHON.match(tape.text, tape.pos):
            tape.pos = found.end()
            emit(found.group())
        elif char == quote:
            tape.pos += 1
            emit('"')
            return
        elif char == "\\":
            emit(escaped((yield from _python_escape(tape))))
        elif char:
            tape.pos += 1
            emit(escaped(char))
        else:
            raise MalformedError


def _python_escape(tape: Tape) -> Steps[str]:
    escape = yield from tape.take(2)
    kind = escape[1]
    if kind in _HEX_DIGITS:
        digits = yield from tape.take(_HEX_DIGITS[kind])
        if not re.fullmatch("[0-9a-fA-F]+", digits) or int(digits, 16) > 0x10FFFF:
            raise MalformedError
        return chr(int(digits, 16))
    return _PYTHON_ESCAPES.get(kind, escape)


# -- plain text between tags


def kinds_of(schema: Any) -> frozenset[str]:
    """The JSON types that a property's schema names; empty if it does not say."""
    if not isinstance(schema, Mapping):
        return frozenset()
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return frozenset((kinds,))
    if isinstance(kinds, list):
        return frozenset(kind for kind in kinds if isinstance(kind, str))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if isinstance(values, list) and values and all(isinstance(v, str) for v in values):
        return frozenset(("string",))
    return frozenset()


def tagged_value(
    tape: Tape, emit: Emit, closing: tuple[str, ...], schema: Any, *, is_text: bool | None = None
) -> Steps[None]:
    """Text up to one of ``closing``, as the JSON value that ``schema`` wants: a string as it
    stands, without one line break at each end; anything else as JSON if it is some.
    ``is_text``: the model itself says whether it is a string."""
    yield from tape.accept("\n")
    kinds = kinds_of(schema)
    if is_text or (is_text is None and kinds == {"string"}):
        emit('"')
        stop = yield from _text_until(tape, lambda piece: emit(escaped(piece)), closing)
        emit('"')
    else:
        pieces: list[str] = []
        stop = yield from _text_until(tape, pieces.append, closing)
        emit(_as_json("".join(pieces), kinds))
    if not stop:
        raise MalformedError


def _text_until(tape: Tape, emit: Emit, closing: tuple[str, ...]) -> Steps[str]:
    with_break = tuple("\n" + close for close in closing)
    return (yield from tape.until((*closing, *with_break), emit))


def _as_json(text: str, kinds: frozenset[str]) -> str:
    """``text`` as JSON: as it is if it is JSON of a kind that is wanted, else a string."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        word = _PYTHON_WORDS.get(text.strip())
        return word if word is not None and "string" not in kinds else json.dumps(text)
    if "string" in kinds and _kind_of(value) not in kinds:
        return json.dumps(text)
    return json.dumps(value, ensure_ascii=False)


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    kinds = {float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]
