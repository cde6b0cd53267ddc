"""Anthropic's messages as OpenAI's: blocks become contents, thoughts, calls and results."""

from __future__ import annotations

from typing import Any

import orjson

from slotmux.server.dialects.blocks import (
    as_content,
    list_at,
    missing,
    object_at,
    only,
    text_at,
    unsupported,
    wrong_type,
)
from slotmux.server.schemas.chat import MAX_MESSAGES

# Claude Code begins its system prompt with a line about billing that changes on every request:
# it says nothing to a model, and no prefix behind it could ever be reused.
BILLING = "x-anthropic-billing-header"
_OF_ALL = ("type", "cache_control")


def chat_messages(messages: Any, system: Any) -> list[dict[str, Any]]:
    """OpenAI's messages. Raises ApiError 400 that names what is wrong."""
    told: list[dict[str, Any]] = []
    texts = _system(system)
    if texts:
        told.append({"role": "system", "content": as_content(texts)})
    if not list_at(messages, "messages", MAX_MESSAGES):
        raise wrong_type("messages", "a non-empty array")
    for index, message in enumerate(messages):
        told += _message(object_at(message, f"messages[{index}]"), f"messages[{index}]")
    return told


def _system(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        texts = [value]
    else:
        texts = []
        for index, block in enumerate(list_at(value, "system")):
            path = f"system[{index}]"
            if object_at(block, path).get("type") != "text":
                raise unsupported(f"{path}.type", "a system prompt is text")
            texts.append(_text(block, path))
    return [text for text in map(without_billing, texts) if text]


def without_billing(text: str) -> str:
    """A system text without the line about billing, if it begins with one."""
    return text.partition("\n")[2] if text.startswith(BILLING) else text


def _message(message: dict[str, Any], path: str) -> list[dict[str, Any]]:
    only(message, ("role", "content", "cache_control", "id", "type"), path)
    role = message.get("role")
    if role not in ("user", "assistant", "system"):
        raise wrong_type(f"{path}.role", "'user' or 'assistant'")
    if "content" not in message:
        raise missing(f"{path}.content")
    content, where = message["content"], f"{path}.content"
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = [
        (object_at(block, f"{where}[{i}]"), f"{where}[{i}]")
        for i, block in enumerate(list_at(content, where))
    ]
    if role == "assistant":
        return [_assistant(blocks)]
    return _others(role, blocks)


def _text(block: dict[str, Any], path: str) -> str:
    only(block, (*_OF_ALL, "text", "citations"), path)
    return text_at(block, "text", path)


def _others(role: str, blocks: list[tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Results of tools are messages of their own; texts that stand together are one."""
    told: list[dict[str, Any]] = []
    texts: list[str] = []

    def flush() -> None:
        if texts:
            told.append({"role": role, "content": as_content(texts.copy())})
            texts.clear()

    for block, path in blocks:
        kind = block.get("type")
        if kind == "text":
            texts.append(_text(block, path))
        elif kind == "tool_result" and role == "user":
            flush()
            told.append(_result(block, path))
        else:
            raise unsupported(f"{path}.type", "text and tool_result are")
    flush()
    return told or [{"role": role, "content": ""}]


def _result(block: dict[str, Any], path: str) -> dict[str, Any]:
    only(block, (*_OF_ALL, "tool_use_id", "content", "is_error"), path)
    content = block.get("content")
    if content is None or isinstance(content, str):
        text = content or ""
    else:
        parts = []
        for index, part in enumerate(list_at(content, f"{path}.content")):
            where = f"{path}.content[{index}]"
            if object_at(part, where).get("type") != "text":
                raise unsupported(f"{where}.type", "results are text")
            parts.append(_text(part, where))
        text = "\n".join(parts)
    return {"role": "tool", "tool_call_id": text_at(block, "tool_use_id", path), "content": text}


def _assistant(blocks: list[tuple[dict[str, Any], str]]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block, path in blocks:
        kind = block.get("type")
        if kind == "text":
            texts.append(_text(block, path))
        elif kind == "thinking":
            only(block, (*_OF_ALL, "thinking", "signature"), path)
            thoughts.append(text_at(block, "thinking", path))
        elif kind == "tool_use":
            calls.append(_call(block, path))
        elif kind != "redacted_thinking":  # what only its maker can read says nothing here
            raise unsupported(f"{path}.type", "text, thinking and tool_use are")
    message: dict[str, Any] = {"role": "assistant", "content": as_content(texts) if texts else ""}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: dict[str, Any], path: str) -> dict[str, Any]:
    only(block, (*_OF_ALL, "id", "name", "input", "caller"), path)
    arguments = object_at(block.get("input", {}), f"{path}.input")
    function = {
        "name": text_at(block, "name", path),
        "arguments": orjson.dumps(arguments).decode(),
    }
    return {"id": text_at(block, "id", path), "type": "function", "function": function}
