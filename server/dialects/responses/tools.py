"""Tools of the Responses API as functions, and what a call of each is told as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from slotmux.server.dialects.blocks import (
    list_at,
    object_at,
    only,
    text_at,
    unsupported,
    wrong_type,
)

MAX_TOOLS = 1024
# Offers of tools that OpenAI runs. None of them is taken up here, as any model may choose not to.
_OFFERS = ("web_search", "web_search_preview", "image_generation")
_CUSTOM = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the client calls the functions that the model knows. ``custom``: names of tools whose
    input is a plain text; ``spaces``: the namespace and the name of those that are in one;
    ``places``: where each function was told."""

    custom: frozenset[str]
    spaces: Mapping[str, tuple[str, str]]
    places: Sequence[str] = ()

    def of(self, name: str) -> dict[str, str]:
        """The members of a call's item that name its tool."""
        if name not in self.spaces:
            return {"name": name}
        space, own = self.spaces[name]
        return {"name": own, "namespace": space}


def name_within(namespace: str | None, name: str) -> str:
    """The one name by which the model knows a tool of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def chat_tools(tools: Any) -> tuple[list[dict[str, Any]], Names]:
    """Function tools, those of namespaces among them, and what the client calls them.

    Raises ApiError 400 for tools that neither the client nor this server can run.
    """
    told: list[dict[str, Any]] = []
    custom: set[str] = set()
    spaces: dict[str, tuple[str, str]] = {}
    places: list[str] = []
    for path, space, tool in _flat(tools):
        kind = tool.get("type")
        if kind == "function":
            told.append(_function(tool, path))
        elif kind == "custom":
            told.append(_custom(tool, path))
        elif not (isinstance(kind, str) and kind.startswith(_OFFERS)):
            raise unsupported(f"{path}.type", "function and custom tools are")
        else:
            continue
        places.append(path)
        own = tool["name"]
        name = told[-1]["function"]["name"] = name_within(space, own)
        if space is not None:
            spaces[name] = (space, own)
        if kind == "custom":
            custom.add(name)
    return told, Names(frozenset(custom), spaces, places)


def _flat(tools: Any) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """The place, the namespace and the object of each tool."""
    for index, tool in enumerate(list_at(tools, "tools", MAX_TOOLS)):
        path = f"tools[{index}]"
        if object_at(tool, path).get("type") != "namespace":
            yield path, None, tool
            continue
        only(tool, ("type", "name", "description", "tools"), path)
        space = text_at(tool, "name", path)
        for within, inner in enumerate(list_at(tool.get("tools"), f"{path}.tools", MAX_TOOLS)):
            place = f"{path}.tools[{within}]"
            yield place, space, object_at(inner, place)


def _function(tool: dict[str, Any], path: str) -> dict[str, Any]:
    known = ("type", "name", "description", "parameters", "strict", "defer_loading")
    only(tool, known, path)
    function: dict[str, Any] = {"name": text_at(tool, "name", path)}
    for name in ("description", "parameters", "strict"):
        if tool.get(name) is not None:
            function[name] = tool[name]
    return {"type": "function", "function": function}


def _custom(tool: dict[str, Any], path: str) -> dict[str, Any]:
    """A function of one text. The grammar that such a text should follow is told to the model."""
    only(tool, ("type", "name", "description", "format", "defer_loading"), path)
    description = tool.get("description") or ""
    if not isinstance(description, str):
        raise wrong_type(f"{path}.description", "a string")
    form = tool.get("format")
    if form is not None and object_at(form, f"{path}.format").get("type") == "grammar":
        definition = text_at(form, "definition", f"{path}.format")
        description = f"{description}\n\nThe input follows this grammar:\n{definition}".strip()
    function = {
        "name": text_at(tool, "name", path),
        "description": description,
        "parameters": _CUSTOM,
    }
    return {"type": "function", "function": function}


def chat_tool_choice(value: Any) -> Any:
    """tool_choice in OpenAI's older words."""
    if isinstance(value, str) or value is None:
        return value
    choice = object_at(value, "tool_choice")
    if choice.get("type") not in ("function", "custom"):
        raise unsupported("tool_choice.type", "auto, none, required or one tool by name")
    only(choice, ("type", "name", "namespace"), "tool_choice")
    space = choice.get("namespace") and text_at(choice, "namespace", "tool_choice")
    name = name_within(space, text_at(choice, "name", "tool_choice"))
    return {"type": "function", "function": {"name": name}}


def custom_input(arguments: str) -> str:
    """The text that a call of a custom tool is made with; a call cut short as it stands."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments
