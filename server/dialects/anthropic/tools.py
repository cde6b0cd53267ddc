"""Anthropic's tools and tool_choice as OpenAI's."""

from __future__ import annotations

from typing import Any

from slotmux.server.dialects.blocks import (
    list_at,
    object_at,
    only,
    text_at,
    unsupported,
    wrong_type,
)

MAX_TOOLS = 1024
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# Beside name, description and schema: advice about caching and about how arguments are streamed.
_ADVICE = ("cache_control", "eager_input_streaming", "input_examples", "allowed_callers")


def chat_tools(tools: Any) -> list[dict[str, Any]]:
    """Function tools. Those that run at Anthropic are refused by their type."""
    told = []
    for index, tool in enumerate(list_at(tools, "tools", MAX_TOOLS)):
        path = f"tools[{index}]"
        if object_at(tool, path).get("type") not in (None, "custom"):
            raise unsupported(f"{path}.type", "only tools that the client runs are")
        only(tool, ("type", "name", "description", "input_schema", "strict", *_ADVICE), path)
        function: dict[str, Any] = {
            "name": text_at(tool, "name", path),
            "parameters": object_at(tool.get("input_schema", {}), f"{path}.input_schema"),
        }
        if tool.get("description") is not None:
            function["description"] = text_at(tool, "description", path)
        if tool.get("strict") is not None:
            function["strict"] = tool["strict"]
        told.append({"type": "function", "function": function})
    return told


def chat_tool_choice(value: Any) -> dict[str, Any]:
    """tool_choice and parallel_tool_calls."""
    if value is None:
        return {}
    choice = object_at(value, "tool_choice")
    only(choice, ("type", "name", "disable_parallel_tool_use"), "tool_choice")
    told: dict[str, Any] = {}
    kind = choice.get("type")
    if kind == "tool":
        name = text_at(choice, "name", "tool_choice")
        told["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in _CHOICES:
        told["tool_choice"] = _CHOICES[kind]
    else:
        raise wrong_type("tool_choice.type", "'auto', 'any', 'tool' or 'none'")
    is_serial = choice.get("disable_parallel_tool_use")
    if is_serial is not None:
        if not isinstance(is_serial, bool):
            raise wrong_type("tool_choice.disable_parallel_tool_use", "a boolean")
        told["parallel_tool_calls"] = not is_serial
    return told
