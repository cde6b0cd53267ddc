"""docs/parameters.md from the table that the server goes by: python -m tools.parameters_page"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from slotmux.server.schemas.base import StrictModel
from slotmux.server.schemas.chat import ChatRequest, Message
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.generation import StreamOptions
from slotmux.server.schemas.parameters import TABLES, Parameter, Place

PAGE = Path(__file__).parents[1] / "docs" / "parameters.md"
PART_FIELDS = frozenset({"type", "text"})

_HEAD = """# Parameters

Made by `python -m tools.parameters_page` from `server/schemas/parameters.py`; a test says when it
is out of date.

One rule holds for every parameter that clients of OpenAI, vLLM, llama-server and Ollama send:

- **honoured**: it does what it says, or is refused with what is wrong about its value.
- **advice**: its type is checked and the value is ignored; nothing that an answer promises depends
  on it.
- **refused**: 400 `unsupported_parameter` that names it, unless the value asks for nothing: `null`,
  or one of the neutral values below.

`null` means "not given" everywhere. Whole numbers may be written as `64.0`. A name that is not
listed is refused as `unknown_parameter`.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_HEAD, *_bodies(), *_small("messages", Message, Place.MESSAGE), *_parts(),
                      *_small("stream_options", StreamOptions, Place.STREAM_OPTIONS)])  # fmt: skip


def rule(row: Parameter, fields: frozenset[str]) -> str:
    """What the server does with a parameter, in one word."""
    if row.advice is not None:
        return "advice"
    return "honoured" if row.name in fields else "refused"


def fields_of(model: type[StrictModel]) -> frozenset[str]:
    """Names of its fields."""
    return frozenset(model.model_fields)


def _bodies() -> Iterator[str]:
    yield "## /v1/chat/completions and /v1/completions\n"
    yield "| parameter | known from | chat | completions | asks for nothing | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    chat, text = fields_of(ChatRequest), fields_of(CompletionRequest)
    other = TABLES[Place.COMPLETION]
    for name, row in sorted(TABLES[Place.CHAT].items()):
        neutral = _neutral(row)
        if other[name].neutral != row.neutral:
            neutral += f"; completions: {_neutral(other[name])}"
        rules = f"{rule(row, chat)} | {rule(other[name], text)}"
        yield f"| `{name}` | {row.origin} | {rules} | {neutral} | {row.note} |"
    yield ""


def _small(title: str, model: type[StrictModel], place: Place) -> Iterator[str]:
    yield from _table(title, fields_of(model), place)


def _parts() -> Iterator[str]:
    yield from _table("parts of content", PART_FIELDS, Place.PART)


def _table(title: str, fields: frozenset[str], place: Place) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| name | known from | rule | asks for nothing | |"
    yield "| --- | --- | --- | --- | --- |"
    for name, row in sorted(TABLES[place].items()):
        yield f"| `{name}` | {row.origin} | {rule(row, fields)} | {_neutral(row)} | {row.note} |"
    yield ""


def _neutral(row: Parameter) -> str:
    return ", ".join(f"`{json.dumps(value)}`".replace("|", "\\|") for value in row.neutral)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
