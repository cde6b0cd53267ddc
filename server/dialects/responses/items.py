"""Input items as OpenAI's older messages: messages, calls, their outputs, thoughts."""

from __future__ import annotations

from typing import Any

import orjson

from slotmux.server.dialects.blocks import (
    as_content,
    list_at,
    object_at,
    only,
    text_at,
    unsupported,
    wrong_type,
)
from slotmux.server.dialects.responses.tools import name_within

MAX_ITEMS = 4096
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_OF_ALL = ("type", "id", "status")


def chat_messages(items: list[dict[str, Any]], instructions: str | None) -> list[dict[str, Any]]:
    """Messages for the template; what stands side by side of one turn of the assistant is one.

    Raises ApiError 400 that names what is wrong.
    """
    told: list[dict[str, Any]] = []
    if instructions:
        told.append({"role": "system", "content": instructions})
    for index, item in enumerate(items):
        message = _message(item, f"input[{index}]")
        if message is not None:
            _append(told, message)
    for message in told:
        if message["role"] == "assistant":
            message.setdefault("content", "")
    return told


def input_items(value: Any) -> list[dict[str, Any]]:
    """``input`` as items: a text is a message of the user."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if value is None:
        return []
    items = list_at(value, "input", MAX_ITEMS)
    return [object_at(item, f"input[{index}]") for index, item in enumerate(items)]


def _append(told: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """A thought, a text and calls of the assistant are parts of one message, in that order."""
    last = told[-1] if told else None
    if message["role"] != "assistant" or last is None or last["role"] != "assistant":
        told.append(message)
    elif "tool_calls" in message:
        last.setdefault("tool_calls", []).extend(message["tool_calls"])
    elif "reasoning_content" in message and not last.keys() - {"role", "reasoning_content"}:
        last["reasoning_content"] += message["reasoning_content"]
    elif "content" in message and "content" not in last and "tool_calls" not in last:
        last["content"] = message["content"]
    else:
        told.append(message)


def _message(item: dict[str, Any], path: str) -> dict[str, Any] | None:
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        return _said(item, path)
    if kind in ("function_call", "custom_tool_call"):
        return _call(item, path, is_custom=kind == "custom_tool_call")
    if kind in ("function_call_output", "custom_tool_call_output"):
        only(item, (*_OF_ALL, "call_id", "output", "name"), path)
        return {
            "role": "tool",
            "tool_call_id": text_at(item, "call_id", path),
            "content": "\n".join(_texts(item.get("output"), f"{path}.output")),
        }
    if kind == "reasoning":
        return _thought(item, path)
    raise unsupported(f"{path}.type", "messages, calls, their outputs and thoughts are")


def _said(item: dict[str, Any], path: str) -> dict[str, Any]:
    only(item, (*_OF_ALL, "role", "content", "phase"), path)
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise wrong_type(f"{path}.role", "'user', 'assistant', 'system' or 'developer'")
    texts = _texts(item.get("content"), f"{path}.content")
    return {"role": role, "content": as_content(texts) if texts else ""}


def _texts(content: Any, path: str) -> list[str]:
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    texts = []
    for index, part in enumerate(list_at(content, path)):
        where = f"{path}[{index}]"
        kind = object_at(part, where).get("type")
        if kind == "refusal":
            texts.append(text_at(part, "refusal", where))
        elif kind in _TEXTS:
            only(part, ("type", "text", "annotations", "logprobs", "cache_control"), where)
            texts.append(text_at(part, "text", where))
        else:
            raise unsupported(f"{where}.type", "models here read text")
    return texts


def _call(item: dict[str, Any], path: str, *, is_custom: bool) -> dict[str, Any]:
    argument = "input" if is_custom else "arguments"
    only(item, (*_OF_ALL, "call_id", "name", "namespace", argument), path)
    text = text_at(item, argument, path)
    if is_custom:
        text = orjson.dumps({"input": text}).decode()
    space = text_at(item, "namespace", path) if item.get("namespace") is not None else None
    name = name_within(space, text_at(item, "name", path))
    function = {"name": name, "arguments": text}
    call = {"id": text_at(item, "call_id", path), "type": "function", "function": function}
    return {"role": "assistant", "tool_calls": [call]}


def _thought(item: dict[str, Any], path: str) -> dict[str, Any] | None:
    """What is encrypted was made elsewhere and says nothing here."""
    only(item, (*_OF_ALL, "summary", "content", "encrypted_content"), path)
    texts = _texts(item.get("content"), f"{path}.content")
    texts = texts or _texts(item.get("summary"), f"{path}.summary")
    if not texts:
        return None
    return {"role": "assistant", "reasoning_content": "\n".join(texts)}
